"""T3, T7, T12, T13 with payment channels: forged, foreign and repeated vouchers, and overdrafts."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from x402.mechanisms.evm.batch_settlement.client.voucher import sign_voucher
from x402.mechanisms.evm.signers import EthAccountSigner

from tests.chain.channels import PRICE, ChannelBuyer, offer_channels, on_chain
from tests.chain.support import NETWORK, SETTLER
from tests.security.conftest import earned
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.models import ChainTransaction, Payment, PaymentChannel, Receipt
from x402_django.payments.claiming import claim_channels
from x402_django.protocol.channels import ChannelConfig
from x402_django.testing.payer import decode, encode

pytestmark = pytest.mark.django_db(transaction=True)

PREFIX = "invalid_batch_settlement_evm_"
ELSEWHERE = dev_accounts()[7].address


@pytest.fixture
def buyer(chain):
    offer_channels()
    return ChannelBuyer()


def refused(buyer: ChannelBuyer, payload: dict[str, Any], path: str = "/weather/") -> str:
    """The code; whatever it is, nothing was given, taken or sent."""
    before = (sum(runs.values()), ChainTransaction.objects.count(), buyer.dollars())
    charged = list(PaymentChannel.objects.values_list("charged", flat=True))
    response = buyer.send(path, payload)
    assert response.status_code in (400, 402), response.content
    assert (sum(runs.values()), ChainTransaction.objects.count(), buyer.dollars()) == before
    assert [c for c in PaymentChannel.objects.values_list("charged", flat=True) if c] == [
        c for c in charged if c
    ]
    if response.status_code == 400:
        return str(response.json()["error"])
    return str(decode(response["PAYMENT-REQUIRED"])["error"])


def voucher(buyer: ChannelBuyer, payload: dict[str, Any], maximum: int, *, by: Any = None) -> Any:
    """The payload as a voucher for ``maximum``, signed by the buyer or by somebody else."""
    config = payload["payload"]["channelConfig"]
    channel_id = ChannelConfig.from_wire(config).channel_id(NETWORK)
    signed = sign_voucher(EthAccountSigner(by or buyer.account), channel_id, maximum, NETWORK)
    body = {"type": "voucher", "channelConfig": config, "voucher": signed.to_dict()}
    return {**payload, "payload": body}


def with_config(payload: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(payload))
    changed["payload"]["channelConfig"] |= changes
    return changed


def test_t13_a_voucher_of_somebody_else_buys_nothing(chain, buyer):
    buyer.buy()
    payload, _ = buyer.sign("/weather/")
    thief = dev_accounts()[6]
    from eth_account import Account

    forged = voucher(buyer, payload, 2 * PRICE, by=Account.from_key(thief.private_key))
    assert refused(buyer, forged) == PREFIX + "voucher_signature"
    stolen = with_config(payload, payerAuthorizer=thief.address)  # another channel then
    assert refused(buyer, stolen) == PREFIX + "channel_id_mismatch"
    garbage = json.loads(json.dumps(payload))
    garbage["payload"]["voucher"]["signature"] = "0x" + "11" * 65
    assert refused(buyer, garbage) == PREFIX + "voucher_signature"
    wrapped = json.loads(json.dumps(payload))  # as if a wallet were to be deployed (ERC-6492)
    wrapped["payload"]["voucher"]["signature"] = "0x" + "11" * 65 + "6492" * 16
    assert refused(buyer, wrapped) == PREFIX + "voucher_signature"
    assert buyer.buy().status_code == 200


def test_t13_a_malleable_signature_is_refused(chain, buyer):
    buyer.buy()
    payload, _ = buyer.sign("/weather/")
    signature = bytes.fromhex(payload["payload"]["voucher"]["signature"][2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    other = signature[:32] + s.to_bytes(32, "big") + bytes([signature[64] ^ 7])
    genuine = json.loads(json.dumps(payload))
    payload["payload"]["voucher"]["signature"] = "0x" + other.hex()
    assert refused(buyer, payload) == f"{PREFIX}voucher_signature"
    assert Payment.objects.count() == 1  # and it is not in the way of the payer's own
    assert buyer.send("/weather/", genuine).status_code == 200


def test_t13_a_signature_that_the_escrow_would_refuse_buys_nothing(chain, buyer):
    """ecrecover and the escrow want a ``v`` of 27 or 28; with 0 or 1 it could not be claimed."""
    buyer.buy()
    payload, _ = buyer.sign("/weather/")
    signature = bytes.fromhex(payload["payload"]["voucher"]["signature"][2:])
    other = signature[:64] + bytes([signature[64] - 27])
    payload["payload"]["voucher"]["signature"] = "0x" + other.hex()
    assert refused(buyer, payload) == f"{PREFIX}voucher_signature"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"receiver": ELSEWHERE}, "receiver_mismatch"),
        ({"receiverAuthorizer": ELSEWHERE}, "receiver_authorizer_mismatch"),
        ({"token": ELSEWHERE}, "token_mismatch"),
        ({"withdrawDelay": 900}, "withdraw_delay_mismatch"),
        ({"payerAuthorizer": "0x" + "0" * 40}, "voucher_signature"),
        ({"salt": "0x" + "77" * 32}, "channel_id_mismatch"),
    ],
)
def test_t12_a_channel_that_is_not_the_one_offered(chain, buyer, changes, code):
    payload, _ = buyer.sign("/weather/")
    config = {**payload["payload"]["channelConfig"], **changes}
    changed = with_config(payload, **changes)
    assert refused(buyer, changed) == PREFIX + code
    if code != "channel_id_mismatch":  # also with the name that fits it
        fitting = ChannelConfig.from_wire(config).channel_id(NETWORK)
        changed["payload"]["voucher"]["channelId"] = fitting
        assert refused(buyer, changed) == PREFIX + code


@pytest.mark.parametrize("maximum", [0, 1, PRICE - 1, PRICE, 3 * PRICE, 10 * PRICE, 2**128 - 1])
def test_t12_a_voucher_for_another_amount(chain, buyer, maximum):
    buyer.buy()
    payload, _ = buyer.sign("/async-weather/")
    code = refused(buyer, voucher(buyer, payload, maximum), "/async-weather/")
    assert code == PREFIX + "cumulative_amount_mismatch"
    assert buyer.buy().status_code == 200


def test_t12_a_voucher_beyond_the_deposit(chain, buyer):
    for _ in range(10):
        buyer.buy()
    payload, _ = buyer.sign("/weather/")
    assert payload["payload"]["type"] == "deposit"
    alone = voucher(buyer, payload, 11 * PRICE)
    assert refused(buyer, alone) == PREFIX + "cumulative_exceeds_balance"


def test_t12_a_channel_that_was_never_opened(chain, buyer):
    payload, _ = buyer.sign("/weather/")
    assert refused(buyer, voucher(buyer, payload, PRICE)) == PREFIX + "channel_not_found"
    assert not PaymentChannel.objects.exists()


def test_t12_a_deposit_that_nobody_has_or_has_signed(chain, buyer):
    poor = ChannelBuyer(dollars=0.05)
    payload, _ = poor.sign("/weather/")
    assert refused(poor, payload) == PREFIX + "insufficient_balance"
    payload, _ = buyer.sign("/weather/")
    authorization = payload["payload"]["deposit"]["authorization"]["erc3009Authorization"]
    authorization["signature"] = "0x" + "22" * 65
    assert refused(buyer, payload) == PREFIX + "receive_authorization_signature"
    authorization["validBefore"] = "1"
    assert refused(buyer, payload) == PREFIX + "payload_authorization_valid_before"


@pytest.mark.parametrize(
    "change",
    [
        {"type": "refund"},
        {"type": "claim"},
        {"type": ""},
        {"channelConfig": None},
        {"channelConfig": {}},
        {"voucher": {}},
        {"voucher": {"channelId": "0x1", "maxClaimableAmount": "1", "signature": "0x1"}},
        {"deposit": {"amount": "1", "authorization": {"permit2Authorization": {}}}},
        {"deposit": {"amount": str(2**128), "authorization": {"erc3009Authorization": {}}}},
    ],
    ids=str,
)
def test_t17_payloads_that_are_none(chain, buyer, change):
    payload, _ = buyer.sign("/weather/")
    payload["payload"] |= change
    refused(buyer, payload)
    assert not PaymentChannel.objects.exists()


def test_t03_one_deposit_funds_one_channel_once(chain, buyer):
    payload, _ = buyer.sign("/weather/")
    first = buyer.send("/weather/", payload)
    assert first.status_code == 200
    # The same authorization under the next voucher: the chain has it as used.
    again = json.loads(json.dumps(payload))
    again["payload"]["voucher"] = voucher(buyer, payload, 2 * PRICE)["payload"]["voucher"]
    assert refused(buyer, again) == PREFIX + "deposit_simulation_failed"
    channel = PaymentChannel.objects.get()
    assert (channel.balance, on_chain(channel.channel_id)) == (10 * PRICE, (10 * PRICE, 0))


def at_once(payloads: list[dict[str, Any]], path: str) -> list[Any]:
    barrier = Barrier(len(payloads))

    def send(number: int) -> Any:
        try:
            client = Client(raise_request_exception=False)
            headers = {"PAYMENT-SIGNATURE": encode(payloads[number])}
            barrier.wait(60)
            return client.get(path.format(number), headers=headers)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(payloads)) as pool:
        return list(pool.map(send, range(len(payloads))))


def check(chain: Any, responses: list[Any]) -> int:
    """Nobody had more than was signed for, and the merchant gets all that was sold."""
    sold = sum(one.status_code == 200 for one in responses)
    channel = PaymentChannel.objects.get()
    paid = Payment.objects.filter(state="settled").count()
    assert channel.charged == paid * PRICE <= channel.balance
    assert Receipt.objects.count() == paid
    claim_channels(everything=True)
    chain.mine(2)
    claim_channels()
    assert earned(chain) == chain.dollars(PAY_TO) == paid * PRICE
    return sold


@pytest.mark.parametrize("threads", [8])
def test_t04_copies_of_one_voucher_at_once(chain, buyer, threads):
    buyer.buy()
    payload, _ = buyer.sign("/weather/")
    responses = at_once([payload] * threads, "/weather/")
    assert {one.status_code for one in responses} <= {200, 409}
    check(chain, responses)
    assert runs["weather"] == 2


def test_t06_one_voucher_for_many_pages_at_once(chain, buyer):
    buyer.buy()
    payload, _ = buyer.sign("/weather/?n=0")
    responses = at_once([payload] * 8, "/weather/?n={}")
    assert Counter(one.status_code for one in responses) == {200: 1, 402: 7}
    assert check(chain, responses) == 1
    assert runs["weather"] == 2


def overdraw(chain: Any, buyer: ChannelBuyer, threads: int) -> None:
    """Vouchers signed ahead, more than the deposit is good for, all at once."""
    buyer.buy()
    payload, _ = buyer.sign("/weather/")
    ahead = [voucher(buyer, payload, (2 + n) * PRICE) for n in range(threads)]
    responses = at_once(ahead, "/weather/?n={}")
    assert {one.status_code for one in responses} <= {200, 402, 409}
    sold = check(chain, responses)
    assert runs["weather"] == 1 + sold <= 10
    channel = PaymentChannel.objects.get()
    assert channel.receiver_authorizer == SETTLER.address
    assert on_chain(channel.channel_id) == (10 * PRICE, (1 + sold) * PRICE)


def test_t07_vouchers_signed_ahead_never_overdraw(chain, buyer):
    overdraw(chain, buyer, 8)


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "postgresql", reason="64 writers want PostgreSQL")
def test_t07_sixty_four_vouchers_at_once_never_overdraw(chain, buyer, settings):
    settings.X402 = {**settings.X402, "SETTLEMENT_TIMEOUT": 60}
    overdraw(chain, buyer, 64)
