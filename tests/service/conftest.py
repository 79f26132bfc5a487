"""A site that settles for others, on a chain of this process."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chain.fixtures import chain
from tests.service import support
from tests.service.support import Caller
from x402_django.models import FacilitatorKey
from x402_django.payments.service import keys

__all__ = ["chain"]


@pytest.fixture
def service(chain: Any, settings: Any, transactional_db: None) -> Any:
    """The chain; the site offers the service."""
    settings.ROOT_URLCONF = "tests.service.urls"
    settings.X402 = support.x402_settings()
    return chain


@pytest.fixture
def make_caller(service: Any) -> Any:
    """``make_caller("name", gas_per_hour=…)``: a caller with a new key, and the key."""

    def make(name: str = "Weather Ltd", **limits: Any) -> tuple[Caller, FacilitatorKey]:
        key, secret = keys.issue(name, **limits)
        return Caller(secret), key

    return make


@pytest.fixture
def caller(make_caller: Any) -> Caller:
    made, _key = make_caller()
    return made
