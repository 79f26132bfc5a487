"""Payments that are really settled on the embedded chain, without HTTP."""

from __future__ import annotations

from typing import Any

from eth_account import Account

from tests.chain.support import NETWORK, PRICE, direct, sign, store
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.models import Payment
from x402_django.payments.settlement import nothing_to_store, settle_now
from x402_django.testing.chain import dev_chain, new_payer, send_transaction, token_contract

#: Somebody with ether who has nothing to do with the site.
STRANGER = Account.from_key(dev_accounts()[7].private_key)


def settled(payer: Any = None, **terms: Any) -> Payment:
    """A payment with its transfer and its receipt; the price by default."""
    payer = payer or new_payer(dev_chain(NETWORK), 1)
    signed = sign(payer, **terms)
    payment = store(signed)
    settle_now(payment, signed, nothing_to_store, actor="test")
    assert payment.state == "settled"
    return payment


def token_call(function: str, *arguments: Any, token: str | None = None) -> Any:
    """A call of a token's function, sent by a stranger; its receipt."""
    contract = token_contract(direct(), token)
    call = {"to": contract.address, "data": contract.encode_abi(function, list(arguments))}
    return send_transaction(direct(), STRANGER, call)


def stray_transfer(to: str, amount: int = PRICE) -> Any:
    """A plain transfer that pays for nothing; its receipt."""
    dev_chain(NETWORK).mint(STRANGER.address, amount)
    return token_call("transfer", to, amount)


def hash_of(receipt: Any) -> str:
    return "0x" + bytes(receipt["transactionHash"]).hex()
