"""A merchant who is logged in, members of others, and a ledger that is easily sold into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.desk.histories import later
from tests.desk.rows import NOW
from x402_django.desk import challenges
from x402_django.models import Membership, Merchant


@pytest.fixture
def today() -> Iterator[None]:
    """It is the tenth of March 2026, a Tuesday."""
    with later(NOW):
        yield


@pytest.fixture
def owner(db: None) -> Client:
    """A superuser's client."""
    client = Client()
    client.force_login(User.objects.create_superuser("owner", password="x"))
    return client


@pytest.fixture
def member(db: None) -> Callable[..., Client]:
    """``member(merchant, "view_payment")``: a client of its member with these permissions."""

    def make(merchant: Merchant | None, *codenames: str) -> Client:
        user = User.objects.create_user(f"member-{User.objects.count()}", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="x402_django", codename__in=codenames)
        )
        if merchant is not None:
            Membership.objects.create(merchant=merchant, user=user)
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def counting(settings: Any) -> Iterator[None]:
    """Challenges are counted, and written down when somebody says so."""
    settings.X402 = {**settings.X402, "CHALLENGE_COUNT_INTERVAL": 3600}
    challenges.connect()
    yield
    challenges.disconnect()
