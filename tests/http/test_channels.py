"""Buying by payment channels: HTTP, the official client's scheme, our wallet, an EVM."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client

from tests.chain.channels import PRICE, ChannelBuyer, call_escrow, offer_channels, on_chain
from tests.chain.support import (
    NETWORK,
    SETTLER,
    answers_forged,
    answers_lost,
    node_down,
    x402_settings,
)
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.chain.channels import ChannelState
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.exceptions import FacilitatorUnavailable, SettlementFailed
from x402_django.facilitators import LocalFacilitator
from x402_django.facilitators.base import BaseFacilitator
from x402_django.models import (
    ChainTransaction,
    ChannelClaim,
    ChannelUse,
    Payment,
    PaymentChannel,
    PriceRule,
    Receipt,
)
from x402_django.payments import channels
from x402_django.payments.claiming import claim_channels
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.pricing.cache import forget_rules
from x402_django.testing.payer import decode

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def buyer(chain):
    offer_channels()
    return ChannelBuyer()


def states() -> list[str]:
    return list(Payment.objects.order_by("pk").values_list("state", flat=True))


@contextmanager
def behind(monkeypatch):
    """A node that has not seen the deposits yet."""

    def read(network, channel_ids):
        return [ChannelState(0, 0, None, 0, clock.now()) for _ in channel_ids]

    with monkeypatch.context() as patch:
        patch.setattr("x402_django.chain.channels.read_channels", read)
        yield


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


def test_the_books_and_the_chain_agree_before_and_after_a_claim(chain, buyer):
    def books():
        out = StringIO()
        call_command("x402_reconcile", "--json", stdout=out)
        (network,) = json.loads(out.getvalue())["networks"]
        (token,) = (one for one in network["tokens"] if one["symbol"] == "TUSD")
        return network["in_order"], int(token["explained"]["units"])

    for _ in range(3):
        assert buyer.buy().status_code == 200
    assert books() == (True, 0)
    claim_channels(everything=True)
    chain.mine(2)
    claim_channels()
    assert books() == (True, 3 * PRICE)
    escrowed = chain.dollars("0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003")
    assert escrowed == 10 * PRICE - 3 * PRICE
    assert buyer.dollars() == 1_000_000 - 10 * PRICE


def test_the_offer_says_what_a_channel_is_opened_with(chain, buyer):
    (offer,) = buyer.challenge("/weather/").accepts
    assert (offer.scheme, offer.amount) == ("batch-settlement", str(PRICE))
    assert offer.extra == {
        "name": "Test Dollar",
        "version": "1",
        "assetTransferMethod": "eip3009",
        "receiverAuthorizer": SETTLER.address,
        "withdrawDelay": 3600,
        "minDeposit": str(10 * PRICE),
    }
    assert buyer.client.get("/weather/").json()["accepts"] == []  # version 1 knows no channels


def test_a_channel_that_runs_dry_is_filled_up(chain, buyer):
    for number in range(1, 23):
        response = buyer.buy()
        assert response.status_code == 200, (number, decode(response["PAYMENT-REQUIRED"]))
    channel = PaymentChannel.objects.get()
    assert (channel.charged, channel.balance) == (22 * PRICE, 30 * PRICE)
    assert ChainTransaction.objects.count() == 3  # three deposits
    assert on_chain(channel.channel_id) == (30 * PRICE, 0)


def test_a_client_that_has_lost_count_is_told_and_goes_on(chain, buyer):
    for _ in range(2):
        buyer.buy()
    buyer.forget()
    payload, offer = buyer.sign("/async-weather/")
    response = buyer.send("/async-weather/", payload)
    error = decode(response["PAYMENT-REQUIRED"])
    assert error["error"] == "invalid_batch_settlement_evm_cumulative_amount_mismatch"
    channel = PaymentChannel.objects.get()
    extra = error["accepts"][0]["extra"]
    assert extra["channelState"]["chargedCumulativeAmount"] == str(2 * PRICE)
    assert extra["voucherState"] == {
        "signedMaxClaimable": str(2 * PRICE),
        "signature": channel.signature,
    }
    assert buyer.note(payload, offer, response) is True
    assert buyer.buy("/async-weather/", retry=False).status_code == 200
    assert (PaymentChannel.objects.get().charged, runs["async_weather"]) == (3 * PRICE, 1)


def test_who_signs_an_old_voucher_for_the_same_page_gets_the_old_answer_or_the_count(chain, buyer):
    buyer.buy()
    payload, offer = buyer.sign("/weather/")
    for _ in range(2):
        assert buyer.send("/weather/", payload).status_code == 200
    assert (PaymentChannel.objects.get().charged, runs["weather"]) == (2 * PRICE, 2)
    with clock.shifted(timedelta(seconds=601)):  # it is not kept any longer
        late = buyer.send("/weather/", payload)
        assert buyer.note(payload, offer, late) is True
        assert buyer.buy(retry=False).status_code == 200
    assert (PaymentChannel.objects.get().charged, runs["weather"]) == (3 * PRICE, 3)


def test_a_lost_answer_is_given_again_and_costs_nothing(chain, buyer):
    first = buyer.buy()
    payload, _ = buyer.sign("/weather/")
    bought = buyer.send("/weather/", payload)
    again = buyer.send("/weather/", payload)  # as if the answer had never come
    assert (bought.content, bought["PAYMENT-RESPONSE"]) == (
        again.content,
        again["PAYMENT-RESPONSE"],
    )
    assert first.status_code == bought.status_code == 200
    assert (PaymentChannel.objects.get().charged, runs["weather"]) == (2 * PRICE, 2)


def test_a_voucher_buys_one_thing(chain, buyer):
    buyer.buy()
    payload, offer = buyer.sign("/weather/")
    assert buyer.send("/weather/", payload).status_code == 200
    other = buyer.send("/async-weather/", payload)
    assert other.status_code == 402
    told = decode(other["PAYMENT-REQUIRED"])
    assert told["error"] == "invalid_batch_settlement_evm_cumulative_amount_mismatch"
    assert runs["async_weather"] == 0
    assert buyer.note(payload, offer, other)  # the client has learnt that it was spent
    assert buyer.buy("/async-weather/").status_code == 200
    assert PaymentChannel.objects.get().charged == 3 * PRICE


def test_a_view_that_fails_costs_nothing_and_deposits_nothing(chain, buyer):
    response = buyer.buy("/broken/")
    assert response.status_code == 500
    assert ChainTransaction.objects.count() == 0
    assert buyer.dollars() == 1_000_000
    assert PaymentChannel.objects.get().charged == 0
    assert states() == ["released"]
    assert buyer.buy().status_code == 200
    assert buyer.buy("/broken/").status_code == 500
    assert buyer.buy().status_code == 200
    assert PaymentChannel.objects.get().charged == 2 * PRICE


def test_a_post_is_charged_before_its_view_and_owed_until_it_works(chain, buyer):
    assert buyer.buy("/weather/", "POST").status_code == 200
    assert Payment.objects.get().flow == "upfront"
    payload, _ = buyer.sign("/flaky/", "POST")
    failed = buyer.send("/flaky/", payload, "POST")
    assert failed.status_code == 500
    assert PaymentChannel.objects.get().charged == 2 * PRICE
    assert buyer.send("/flaky/", payload, "POST").status_code == 200
    assert PaymentChannel.objects.get().charged == 2 * PRICE


def test_two_payers_are_claimed_from_together(chain, buyer):
    second = ChannelBuyer()
    for one in (buyer, second, second):
        assert one.buy().status_code == 200
    assert claim_channels(everything=True).sent == 1
    claim = ChannelClaim.objects.get()
    assert [(i.before, i.up_to) for i in claim.items.order_by("up_to")] == [
        (0, PRICE),
        (0, 2 * PRICE),
    ]
    assert (claim.amount, chain.dollars(PAY_TO)) == (3 * PRICE, 3 * PRICE)


def test_fifty_payers_are_claimed_from_together(chain, buyer):
    buyers = [buyer, *(ChannelBuyer() for _ in range(50))]
    for one in buyers:
        assert one.buy().status_code == 200
    assert claim_channels(everything=True).sent == 1
    assert (ChannelClaim.objects.get().items.count(), chain.dollars(PAY_TO)) == (50, 50 * PRICE)
    chain.mine(3)
    report = claim_channels(everything=True)
    assert (report.arrived, report.final, report.sent) == (1, 50, 1)
    assert chain.dollars(PAY_TO) == 51 * PRICE


def test_a_channel_that_cannot_be_claimed_from_keeps_no_other_from_it(chain, buyer, caplog):
    buyers = [buyer, *(ChannelBuyer() for _ in range(4))]
    for one in buyers:
        one.buy()
    bad = PaymentChannel.objects.order_by("pk")[2]
    PaymentChannel.objects.filter(pk=bad.pk).update(signature="0x" + "11" * 64 + "1b")
    report = claim_channels(everything=True)
    assert (report.sent, report.hindered) == (1, 1)
    assert f"channel {bad.channel_id} on {bad.network} would fail" in caplog.text
    assert chain.dollars(PAY_TO) == 4 * PRICE
    chain.mine(3)
    assert claim_channels(everything=True).final == 4
    assert PaymentChannel.objects.filter(unclaimed_since__isnull=False).get() == bad


class TestTimes:
    def test_what_is_spent_is_claimed_when_it_is_time(self, chain, buyer):
        buyer.buy()
        assert claim_channels().sent == 0
        with clock.shifted(timedelta(seconds=601)):
            assert claim_channels().sent == 1
            assert claim_channels().sent == 0  # one at a time

    def test_what_is_spent_while_a_claim_is_open_waits_for_the_next(self, chain, buyer):
        buyer.buy()
        claim_channels(everything=True)
        buyer.buy()
        chain.mine(2)
        claim_channels()
        channel = PaymentChannel.objects.get()
        assert (channel.claimed, channel.unclaimed) == (PRICE, PRICE)
        assert channel.unclaimed_since is not None
        assert states() == ["final", "settled"]
        assert claim_channels(everything=True).sent == 1
        chain.mine(2)
        claim_channels()
        assert states() == ["final", "final"]
        assert chain.dollars(PAY_TO) == 2 * PRICE

    def test_a_payer_who_wants_the_rest_back_is_claimed_from_at_once_and_sold_nothing(
        self, chain, buyer
    ):
        buyer.buy()
        channel = PaymentChannel.objects.get()
        rest = 9 * PRICE
        config = channels.config_of(channel).as_tuple()
        call_escrow(buyer.account, "initiateWithdraw", config, rest)
        assert buyer.buy().status_code == 200  # the chain was asked a moment ago
        with clock.shifted(timedelta(seconds=901)):  # a quarter of the delay
            refused = buyer.buy()
            assert decode(refused["PAYMENT-REQUIRED"])["error"] == "channel_is_closing"
            assert claim_channels().sent == 1
        chain.advance_time(3601)
        chain.mine()
        call_escrow(buyer.account, "finalizeWithdraw", config)
        claim_channels()
        assert chain.dollars(PAY_TO) == 2 * PRICE
        assert buyer.dollars() == 1_000_000 - 2 * PRICE
        assert states()[:2] == ["final", "final"]

    def test_what_was_withdrawn_before_it_was_claimed_is_lost_and_said(self, chain, buyer, caplog):
        for _ in range(3):
            buyer.buy()
        channel = PaymentChannel.objects.get()
        config = channels.config_of(channel).as_tuple()
        call_escrow(buyer.account, "initiateWithdraw", config, 8 * PRICE)
        chain.advance_time(3601)
        chain.mine()
        call_escrow(buyer.account, "finalizeWithdraw", config)  # nobody has looked for an hour
        report = claim_channels(everything=True)
        assert (report.sent, report.lost) == (1, 0)  # a node may be behind
        chain.mine(3)
        with clock.shifted(timedelta(seconds=601)):
            report = claim_channels(everything=True)
            assert (report.arrived, report.final, report.lost) == (1, 2, 1)
        assert states() == ["final", "final", "reversed"]
        assert chain.dollars(PAY_TO) == 2 * PRICE
        assert "is no longer in escrow" in caplog.text

    def test_a_node_that_is_behind_loses_nothing(self, chain, buyer, monkeypatch):
        buyer.buy()
        with behind(monkeypatch):
            assert claim_channels(everything=True).lost == 0
        channel = PaymentChannel.objects.get()
        assert (channel.short_since is not None, channel.balance) == (True, 0)
        assert claim_channels(everything=True).sent == 1
        assert PaymentChannel.objects.get().short_since is None
        with clock.shifted(timedelta(seconds=601)):
            claim_channels(everything=True)
        assert states() == ["settled"]

    def test_what_was_given_up_and_is_claimed_after_all_is_final(self, chain, buyer, monkeypatch):
        buyer.buy()
        with behind(monkeypatch):
            claim_channels(everything=True)
            with clock.shifted(timedelta(seconds=601)):
                assert claim_channels(everything=True).lost == 1
        assert states() == ["reversed"]
        assert claim_channels(everything=True).sent == 1
        chain.mine(3)
        claim_channels()
        assert (states(), chain.dollars(PAY_TO)) == (["final"], PRICE)
        assert Receipt.objects.count() == 1

    def test_a_claim_that_is_reorganised_away_is_made_again(self, chain, buyer):
        buyer.buy()
        before = chain.snapshot()
        claim_channels(everything=True)
        claim_channels()
        claim = ChannelClaim.objects.get()
        assert claim.state == "sent"
        chain.revert(before)
        assert chain.dollars(PAY_TO) == 0
        claim_channels()
        claim.refresh_from_db()
        assert claim.state == "sending"
        with clock.shifted(timedelta(seconds=60)):
            confirm_pending_payments()  # what is not mined is sent again
        chain.mine(3)
        claim_channels()
        claim.refresh_from_db()
        assert (claim.state, chain.dollars(PAY_TO), states()) == ("final", PRICE, ["final"])


class TestWhoClaims:
    """A channel names one wallet for ever: never one that cannot claim for this site."""

    def test_behind_a_failover_it_is_the_member_with_a_wallet_of_ours(self, chain, settings):
        behind_a_failover(settings)
        offer_channels()
        buyer = ChannelBuyer()
        assert buyer.sign("/weather/")[1].extra["receiverAuthorizer"] == SETTLER.address
        for _ in range(2):
            assert buyer.buy().status_code == 200
        assert PaymentChannel.objects.get().facilitator == "local"
        assert claim_channels(everything=True).sent == 1
        assert chain.dollars(PAY_TO) == 2 * PRICE

    def test_channels_of_a_failover_itself_are_claimed_from(self, chain, settings):
        behind_a_failover(settings)
        offer_channels()
        ChannelBuyer().buy()
        PaymentChannel.objects.update(facilitator="default")
        assert claim_channels(everything=True).sent == 1

    def test_a_service_that_settles_cannot_be_named(self, chain, settings):
        offer_channels()
        x402 = x402_settings()
        x402["FACILITATORS"]["default"] = {"BACKEND": f"{__name__}.Service"}
        settings.X402 = x402
        answer = Client().get("/weather/")
        required = decode(answer["PAYMENT-REQUIRED"]) if answer.status_code == 402 else {}
        assert [one["scheme"] for one in required.get("accepts", [])] in ([], ["exact"])


class Service(BaseFacilitator):
    """A service elsewhere, that names a wallet of its own for ``upto``, and is down."""

    def verify(self, signed):
        raise FacilitatorUnavailable

    def supported(self):
        return frozenset({("upto", NETWORK), ("batch-settlement", NETWORK)})

    def settlers(self, network):
        return (dev_accounts()[8].address,)


def behind_a_failover(settings):
    x402 = x402_settings()
    facilitators = x402["FACILITATORS"]
    facilitators["local"] = facilitators["default"]
    facilitators["service"] = {"BACKEND": f"{__name__}.Service"}
    facilitators["default"] = {
        "BACKEND": "x402_django.facilitators.FailoverFacilitator",
        "OPTIONS": {"FACILITATORS": ["service", "local"]},
    }
    settings.X402 = x402


class TestTrouble:
    def test_a_deposit_whose_answer_is_lost_is_found_and_not_made_again(self, chain, buyer):
        payload, offer = buyer.sign("/weather/")
        with answers_lost("eth_sendRawTransaction"), node_down("eth_getTransactionReceipt"):
            response = buyer.send("/weather/", payload)
        assert response.status_code == 503
        assert states() == ["settling"]
        assert buyer.dollars() == 1_000_000 - 10 * PRICE
        again = buyer.send("/weather/", payload)
        assert again.status_code == 200
        buyer.note(payload, offer, again)
        channel = PaymentChannel.objects.get()
        assert (channel.charged, channel.balance, runs["weather"]) == (PRICE, 10 * PRICE, 1)
        assert buyer.buy().status_code == 200
        assert buyer.dollars() == 1_000_000 - 10 * PRICE

    def test_after_a_deposit_that_failed_for_good_another_one_is_taken(
        self, chain, buyer, monkeypatch
    ):
        payload, _ = buyer.sign("/weather/")

        def fail(*arguments: object) -> None:
            raise SettlementFailed("The deposit was not mined.", code="transaction_failed")

        with monkeypatch.context() as patch:
            patch.setattr(LocalFacilitator, "settle", fail)
            response = buyer.send("/weather/", payload)
        assert (response.status_code, states()) == (402, ["failed"])
        again, _ = buyer.sign("/weather/")
        assert again["payload"]["voucher"] == payload["payload"]["voucher"]
        assert buyer.send("/weather/", again).status_code == 200
        assert states() == ["failed", "settled"]
        channel = PaymentChannel.objects.get()
        assert (channel.charged, channel.balance) == (PRICE, 10 * PRICE)
        assert buyer.dollars() == 1_000_000 - 10 * PRICE

    def test_without_a_node_nothing_is_taken(self, chain, buyer):
        payload, _ = buyer.sign("/weather/")
        with node_down():
            assert buyer.send("/weather/", payload).status_code == 503
        assert states() == ["released"]
        assert buyer.send("/weather/", payload).status_code == 200

    def test_vouchers_need_no_node(self, chain, buyer):
        buyer.buy()
        payload, _ = buyer.sign("/weather/")
        with node_down():
            assert buyer.send("/weather/", payload).status_code == 200

    def test_a_key_that_is_not_at_hand_is_said_and_nothing_is_lost(
        self, chain, buyer, settings, caplog
    ):
        buyer.buy()
        mine = settings.X402
        settings.X402 = x402_settings({"KEY": dev_accounts()[5].private_key})
        assert claim_channels(everything=True).hindered == 1
        assert "is not at hand" in caplog.text
        settings.X402 = mine
        assert claim_channels(everything=True).sent == 1

    def test_a_chain_without_an_escrow_takes_no_channels(self, chain, buyer):
        payload, _ = buyer.sign("/weather/")
        with answers_forged(eth_call="0x"):
            assert buyer.send("/weather/", payload).status_code == 503
        assert Payment.objects.get().state == "released"

    def test_deferred_is_settled_at_once(self, chain, buyer):
        PriceRule.objects.create(
            name="d", url_names=["shop:article"], price_usd="0.01", flow="deferred"
        )
        forget_rules()
        for _ in range(2):
            assert buyer.buy("/articles/a/").status_code == 200
        assert set(Payment.objects.values_list("flow", flat=True)) == {"authorization"}
        assert states() == ["settled", "settled"]


def test_the_command_claims(chain, buyer):
    buyer.buy()
    out = StringIO()
    call_command("x402_channels", "--all", stdout=out)
    assert out.getvalue().startswith("sent: 1, arrived: 0")
