"""The scanner on a real node, over HTTP, through a real reorganisation (``anvil_reorg``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account
from web3 import HTTPProvider, Web3

from tests.chain.anvil import running_anvil
from tests.chain.support import NETWORK, facilitator_body, sign, store, x402_settings
from tests.payments.support import ago
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.chain.evidence import find_settlement
from x402_django.models import Payment, Receipt, ScannedBlock
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.chain import DOLLAR, install_contracts, send_transaction, token_contract
from x402_django.testing.submission import submit_authorization

pytestmark = [pytest.mark.anvil, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def anvil(settings: Any) -> Iterator[Web3]:
    with running_anvil() as url:
        settings.X402 = {
            **x402_settings(PROVIDER=None, RPC_URLS=[url], CONFIRMATIONS=5),
            "CONFIRMATION_INTERVAL": 0,
            "SETTLEMENT_TIMEOUT": 5,
        }
        w3 = Web3(HTTPProvider(url))
        install_contracts(w3)
        yield w3


def ask(w3: Web3, method: str, *params: Any) -> Any:
    answer: Any = w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    return answer["result"]


def pay(w3: Web3) -> tuple[Any, Payment, str]:
    """An authorization that somebody submitted, its row with an unknown outcome, and the hash."""
    payer = Account.create()
    rich = Account.from_key(dev_accounts()[4].private_key)
    mint = token_contract(w3).encode_abi("mint", [payer.address, DOLLAR])
    send_transaction(w3, rich, {"to": TOKEN_ADDRESS, "data": mint})
    ask(w3, "anvil_mine", 3)
    signed = sign(payer)
    transaction = submit_authorization(w3, facilitator_body(signed))
    return signed, store(signed), transaction


def look() -> Any:
    Payment.objects.filter(state="settling").update(
        outcome_unknown_at=ago(100), state_changed_at=ago(100)
    )
    return confirm_pending_payments()


def test_a_payment_is_followed_through_a_reorganisation(anvil: Web3) -> None:
    signed, row, transaction = pay(anvil)
    assert look().settled == 1
    row.refresh_from_db()
    before = row.block_hash
    ask(anvil, "anvil_mine", 2)
    raw = ask(anvil, "eth_getRawTransactionByHash", transaction)

    ask(anvil, "anvil_reorg", 3, [[raw, 1]])
    assert look().reversed == 0

    row.refresh_from_db()
    found = find_settlement(signed)
    assert found is not None
    assert (row.state, row.block_hash) == ("settled", found.block_hash)
    assert (row.block_hash != before, row.transaction) == (True, transaction)
    ask(anvil, "anvil_mine", 5)
    assert look().final == 1
    assert Receipt.objects.count() == 1


def test_a_removed_payment_is_reversed_and_settled_again(anvil: Web3) -> None:
    signed, row, _ = pay(anvil)
    assert look().settled == 1
    ask(anvil, "anvil_mine", 1)
    look()
    ask(anvil, "anvil_reorg", 2, [])
    assert find_settlement(signed) is None

    assert look().reversed == 1
    for _ in range(3):
        look()
    row.refresh_from_db()
    found = find_settlement(signed)
    assert found is not None
    assert (row.state, row.block_hash) == ("settled", found.block_hash)
    assert Receipt.objects.count() == 1


def test_finalized_is_the_nodes_word(anvil: Web3, settings: Any) -> None:
    network = {**settings.X402["NETWORKS"][NETWORK], "CONFIRMATIONS": "finalized"}
    settings.X402 = {**settings.X402, "NETWORKS": {NETWORK: network}}
    _, row, _ = pay(anvil)
    assert (look().final, ScannedBlock.objects.count()) == (0, 1)
    row.refresh_from_db()
    ask(anvil, "anvil_mine", 200)
    finalized = anvil.eth.get_block("finalized")["number"]
    assert finalized >= row.block_number
    assert look().final == 1
