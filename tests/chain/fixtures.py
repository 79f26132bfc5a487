"""Fixtures of the rooms that need the embedded chain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chain import support
from x402_django.chain.devchain import DevChain
from x402_django.testing.chain import dev_chain, reset_dev_chains


@pytest.fixture
def chain(settings: object) -> Iterator[DevChain]:
    """A fresh chain of this process, configured as the site's network."""
    reset_dev_chains()
    support.down.clear()
    support.lost.clear()
    settings.X402 = support.x402_settings()  # type: ignore[attr-defined]
    support.requests.clear()
    yield dev_chain(support.NETWORK)
    reset_dev_chains()
