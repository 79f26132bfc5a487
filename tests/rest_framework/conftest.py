from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache

from tests.rest_framework.people import token


@pytest.fixture
def people(db: None) -> dict[str, User]:
    """``member`` and ``staff``; their names are their tokens."""
    return {
        "member": User.objects.create_user("member", password="letmein"),
        "staff": User.objects.create_user("staff", is_staff=True),
    }


@pytest.fixture
def empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def member(people: dict[str, User]) -> dict[str, str]:
    """Headers of the member."""
    return token("member")
