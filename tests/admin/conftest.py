"""A merchant who is logged in, and staff who may only look."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client


@pytest.fixture
def desk(db: None) -> Client:
    """A superuser's client: what is refused to this one is refused to everybody."""
    client = Client()
    client.force_login(User.objects.create_superuser("merchant", password="x"))
    return client


@pytest.fixture
def staff(db: None) -> Any:
    """``staff("view_payment")``: a client of a member of staff with these permissions alone."""

    def make(*codenames: str, **client: Any) -> Client:
        user = User.objects.create_user("clerk", password="x", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="x402_django", codename__in=codenames)
        )
        clerk = Client(**client)
        clerk.force_login(user)
        return clerk

    return make
