"""Buying by payment channels: HTTP, the official client's scheme, our wallet, an EVM."""

from __future__ import annotations

import pytest

from tests.chain.channels import PRICE, ChannelBuyer, offer_channels, on_chain
from tests.chain.support import SETTLER
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.models import (
    ChainTransaction,
    ChannelClaim,
    ChannelUse,
    Payment,
    PaymentChannel,
    Receipt,
)
from x402_django.payments.claiming import claim_channels
from x402_django.testing.payer import decode

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def buyer(chain):
    offer_channels()
    return ChannelBuyer()


def states() -> list[str]:
    return list(Payment.objects.order_by("pk").values_list("state", flat=True))


def test_a_deposit_and_then_vouchers_and_one_claim_for_all(chain, buyer):
    first = buyer.buy()

    assert first.status_code == 200, decode(first["PAYMENT-REQUIRED"])
    channel = PaymentChannel.objects.get()
    assert (channel.balance, channel.charged, channel.claimed) == (10 * PRICE, PRICE, 0)
    assert on_chain(channel.channel_id) == (10 * PRICE, 0)
    deposit = ChainTransaction.objects.get()
    payment = Payment.objects.get()
    assert (payment.state, payment.transaction) == ("settled", deposit.hash)
    assert (buyer.told.success, buyer.told.transaction) == (True, deposit.hash)
    assert buyer.told.extra["chargedAmount"] == str(PRICE)
    for _ in range(2):
        answer = buyer.buy()
        assert (answer.status_code, buyer.told.success, buyer.told.transaction) == (200, True, "")
    assert runs["weather"] == 3
    assert ChainTransaction.objects.count() == 1  # nothing more went to the chain
    channel.refresh_from_db()
    assert (channel.charged, channel.remaining, channel.unclaimed) == (30_000, 70_000, 30_000)
    assert states() == ["settled"] * 3
    assert [r.amount for r in Receipt.objects.all()] == [PRICE] * 3
    assert chain.dollars(PAY_TO) == 0

    assert claim_channels(everything=True).sent == 1
    claim = ChannelClaim.objects.get()
    assert (claim.state, claim.amount) == ("sending", 30_000)
    assert chain.dollars(PAY_TO) == 30_000
    claim_channels()
    claim.refresh_from_db()
    assert (claim.state, claim.moved, states()) == ("sent", 30_000, ["settled"] * 3)
    chain.mine(2)
    report = claim_channels()
    assert (report.arrived, report.final) == (1, 3)
    claim.refresh_from_db()
    channel.refresh_from_db()
    assert (claim.state, states()) == ("final", ["final"] * 3)
    assert (channel.claimed, channel.unclaimed, channel.unclaimed_since) == (30_000, 0, None)
    assert {p.transaction for p in Payment.objects.all()} == {claim.transaction}
    assert ChannelUse.objects.count() == 3
    assert claim.chain_transaction.wallet == SETTLER.address
