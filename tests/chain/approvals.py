"""Approvals of Permit2 that a payer signs as a transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eth_account.signers.local import LocalAccount

from tests.chain.permits import permit2_offer, sign_permit
from tests.chain.support import direct
from x402_django.chain.devchain.deployment import PLAIN_TOKEN_ADDRESS
from x402_django.constants import PERMIT2_ADDRESS, SPONSOR_ERC20_APPROVAL
from x402_django.protocol.sponsoring import Sponsorship
from x402_django.protocol.types import Offer, SignedPayment
from x402_django.testing.chain import dev_chain, mint_plain_dollars, new_payer, token_contract

GAS = 70_000


def penniless(amount: int = 1_000_000) -> LocalAccount:
    """Somebody with so much of the plain token, no gas, and nothing approved."""
    account = new_payer(dev_chain(), 0)
    mint_plain_dollars(direct(), account.address, amount)
    return account


def sign_approval(
    account: LocalAccount,
    *,
    signer: LocalAccount | None = None,
    spender: str = PERMIT2_ADDRESS,
    amount: int = 2**256 - 1,
    token: str = PLAIN_TOKEN_ADDRESS,
    **changes: Any,
) -> dict[str, str]:
    """The ``info`` of the extension; ``changes`` are of the transaction."""
    w3 = direct()
    transaction = {
        "chainId": w3.eth.chain_id,
        "nonce": w3.eth.get_transaction_count(account.address),
        "to": token,
        "value": 0,
        "data": token_contract(w3, token).encode_abi("approve", [spender, amount]),
        "gas": GAS,
        "maxFeePerGas": 2 * w3.eth.gas_price,
        "maxPriorityFeePerGas": 0,
        "type": 2,
        **changes,
    }
    raw = (signer or account).sign_transaction(transaction).raw_transaction
    return {
        "from": account.address,
        "asset": token,
        "spender": spender,
        "amount": str(amount),
        "signedTransaction": "0x" + bytes(raw).hex(),
        "version": "1",
    }


def sponsored_offer(**changes: Any) -> Offer:
    """In the plain token, with the approval paid for."""
    token = {"asset": PLAIN_TOKEN_ADDRESS, "asset_name": "Plain Dollar", "symbol": "PUSD"}
    return permit2_offer(**{**token, "sponsoring": SPONSOR_ERC20_APPROVAL, **changes})


def sign_sponsored(account: LocalAccount, offer: Offer | None = None) -> SignedPayment:
    """A payment with the approval that it needs."""
    signed = sign_permit(account, offer or sponsored_offer())
    sponsorship = Sponsorship(SPONSOR_ERC20_APPROVAL, sign_approval(account))
    return replace(signed, sponsorship=sponsorship)
