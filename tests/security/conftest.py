"""An attacker's tools: a shop on the embedded chain, and proof that nothing moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chain.support import NETWORK, x402_settings
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.chain import dev_chain, new_payer, reset_dev_chains
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient


@pytest.fixture
def chain(settings: Any) -> Iterator[Any]:
    """The site settles from its own wallet on a fresh chain."""
    reset_dev_chains()
    settings.X402 = {
        **x402_settings(),
        "CONFIRMATION_INTERVAL": 0,
        "SETTLEMENT_TIMEOUT": 2,
    }
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def rich(chain: Any) -> PayingClient:
    """A buyer with one test dollar on the chain."""
    return PayingClient(
        payer=Payer(new_payer(chain, 1)), automatic=False, raise_request_exception=False
    )


def earned(chain: Any) -> int:
    return int(chain.dollars(PAY_TO))


class Untouched:
    """The ledger, the views and the facilitator as they were; ``verify`` proves that they are."""

    def __init__(self) -> None:
        self.rows = list(Payment.objects.order_by("pk").values())
        self.receipts = Receipt.objects.count()
        self.runs = dict(runs)
        self.settled = InstantFacilitator.calls["settle"]

    def verify(self, *, rows: bool = True) -> None:
        if rows:
            assert list(Payment.objects.order_by("pk").values()) == self.rows
        assert Receipt.objects.count() == self.receipts
        assert dict(runs) == self.runs
        assert InstantFacilitator.calls["settle"] == self.settled
