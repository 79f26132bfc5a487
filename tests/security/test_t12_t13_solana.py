"""T12, T13 on Solana: a transaction that is not the offer, or not the payer's, buys nothing."""

# ruff: noqa: F811 - pytest's fixtures, by import

from __future__ import annotations

import base64
import json

import pytest

pytest.importorskip("solders")
pytest.importorskip("solana")
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from x402.mechanisms.svm.constants import USDC_MAINNET_ADDRESS
from x402.mechanisms.svm.utils import derive_ata

from tests.shop.runs import runs
from tests.solana.buyer import compute_limit, compute_price
from tests.solana.conftest import buyer, cluster, facilitator, payee  # noqa: F401
from x402_django.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)

SYSTEM = Pubkey.from_string("11111111111111111111111111111111")
STRANGER = Keypair()


def refused(buyer, response, facilitator, cluster, code, status=402):
    assert (response.status_code, response.json()["error"]) == (status, code)
    assert facilitator.asked == []  # nobody was bothered with it
    assert cluster.landed == []
    assert buyer.balance == 1_000_000
    assert not Payment.objects.exists()
    assert not runs


def drain(fee_payer: str) -> Instruction:
    """The fee payer signs whatever is in the transaction: also a transfer of its own lamports."""
    source = AccountMeta(Pubkey.from_string(fee_payer), True, True)
    return Instruction(
        SYSTEM,
        (2).to_bytes(4, "little") + (10**9).to_bytes(8, "little"),
        [source, AccountMeta(STRANGER.pubkey(), False, True)],
    )


def tampered(name, offer):
    """(what is changed of a right payment, the code it is refused with)."""
    fee_payer = offer["extra"]["feePayer"]
    own_account = derive_ata(offer["payTo"], offer["asset"])
    cases = {
        "less": ({"amount": 9_999}, "amount_mismatch"),
        "more": ({"amount": 10_001}, "amount_mismatch"),
        "another payee": ({"pay_to": str(STRANGER.pubkey())}, "recipient_mismatch"),
        # The payee's wallet itself is no token account: what is sent there is lost.
        "the wallet": ({"destination": offer["payTo"]}, "recipient_mismatch"),
        "another token": (
            {
                "mint": USDC_MAINNET_ADDRESS,
                "destination": own_account,
            },
            "mint_mismatch",
        ),
        "other decimals": ({"decimals": 9}, "decimals_mismatch"),
        "another fee payer": ({"fee_payer": str(STRANGER.pubkey())}, "fee_payer_mismatch"),
        "the fee payer's money": (
            {"change": lambda steps: [*steps[:3], drain(fee_payer)]},
            "fee_payer_transferring_funds",
        ),
        "something beside": (
            {"change": lambda steps: [*steps, _transfer_lamports(steps)]},
            "unknown_instruction",
        ),
        "a second transfer": (
            {"change": lambda steps: [*steps[:3], steps[2]]},
            "unknown_instruction",
        ),
        "nothing": ({"change": lambda steps: steps[:2]}, "signers"),
        "another order": (
            {"change": lambda steps: [steps[2], *steps[:2]]},
            "compute_limit_instruction",
        ),
        "dear computing": (
            {"change": lambda steps: [compute_limit(), compute_price(5_000_001), *steps[2:]]},
            "compute_price_instruction_too_high",
        ),
        "no price": (
            {"change": lambda steps: [compute_limit(), compute_limit(), *steps[2:]]},
            "compute_price_instruction",
        ),
        "a third signer": (
            {
                "change": lambda steps: [*steps[:3], _signed_memo(steps[3])],
                "signers": [STRANGER],
            },
            "signers",
        ),
        "not signed by the owner": ({"owner": STRANGER}, "signature"),
    }
    return cases[name]


def _transfer_lamports(steps):
    owner = steps[2].accounts[3].pubkey
    accounts = [AccountMeta(owner, True, True), AccountMeta(STRANGER.pubkey(), False, True)]
    return Instruction(SYSTEM, (2).to_bytes(4, "little") + bytes(8), accounts)


def _signed_memo(memo):
    return Instruction(memo.program_id, memo.data, [AccountMeta(STRANGER.pubkey(), True, False)])


@pytest.mark.parametrize(
    "name",
    [
        "less", "more", "another payee", "the wallet", "another token", "other decimals",
        "another fee payer", "the fee payer's money", "something beside", "a second transfer",
        "nothing", "another order", "dear computing", "no price", "a third signer",
        "not signed by the owner",
    ],
)  # fmt: skip
def test_t12_what_is_not_the_offer_is_refused_before_anybody_is_asked(
    name,
    buyer,
    facilitator,
    cluster,
):
    [offer] = buyer.challenge()["accepts"]
    changes, code = tampered(name, offer)
    headers = buyer.header(buyer.transaction(offer, **changes))
    facilitator.asked.clear()
    refused(buyer, buyer.send(headers), facilitator, cluster, f"invalid_exact_svm_payload_{code}")


def test_t13_a_signature_of_somebody_else_or_of_another_message(
    buyer,
    facilitator,
    cluster,
):
    [offer] = buyer.challenge()["accepts"]
    raw = bytearray(buyer.transaction(offer))
    other = buyer.transaction(offer, amount=1)
    for signature in (bytes(64), other[65:129], raw[65:128] + bytes([raw[128] ^ 1])):
        raw[65:129] = signature
        response = buyer.send(buyer.header(bytes(raw)))
        facilitator.asked.clear()
        code = "invalid_exact_svm_payload_signature"
        refused(buyer, response, facilitator, cluster, code)


@pytest.mark.parametrize("wrong", ["trailing", "cut", "large", "empty", "base64", "extra accounts"])
def test_t05_one_spelling_of_a_transaction(wrong, buyer, facilitator, cluster):
    [offer] = buyer.challenge()["accepts"]
    raw = buyer.transaction(offer)
    changed = {
        "trailing": raw + b"\0", "cut": raw[:-1], "large": raw + bytes(1233), "empty": b"",
        "base64": raw, "extra accounts": raw[:-1] + b"\1",
    }[wrong]  # fmt: skip
    headers = buyer.header(changed)
    if wrong == "base64":
        document = json.loads(base64.b64decode(headers["PAYMENT-SIGNATURE"]))
        document["payload"]["transaction"] = document["payload"]["transaction"] + "\n"
        encoded = base64.b64encode(json.dumps(document).encode()).decode()
        headers = {"PAYMENT-SIGNATURE": encoded}
    facilitator.asked.clear()
    refused(buyer, buyer.send(headers), facilitator, cluster, "invalid_payload", 400)


def test_t12_letters_of_another_case_are_another_address(
    buyer,
    facilitator,
    cluster,
    payee,
):
    [offer] = buyer.challenge()["accepts"]
    headers = buyer.header(buyer.transaction(offer), payTo=payee.swapcase())
    facilitator.asked.clear()
    code = "invalid_payment_requirements"
    refused(buyer, buyer.send(headers), facilitator, cluster, code)


def test_t12_an_evm_payload_for_solana_and_the_reverse(buyer, facilitator, cluster):
    [offer] = buyer.challenge()["accepts"]
    on_evm = {"network": "eip155:84532"}
    headers = buyer.header(buyer.transaction(offer), **on_evm)
    facilitator.asked.clear()
    refused(buyer, buyer.send(headers), facilitator, cluster, "invalid_network")
