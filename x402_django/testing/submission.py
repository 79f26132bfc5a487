"""Submitting a signed payment to the chain, as anybody who sees one may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

_TRANSFER: Final = (
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
)


def submit_authorization(
    w3: Web3, body: Mapping[str, Any], *, account: LocalAccount | None = None
) -> str:
    """Submit the authorization of a facilitator request, as anybody may; the transaction's hash.

    ``body`` has ``paymentPayload`` and ``paymentRequirements`` in their v2 forms. Raises
    ``web3.exceptions.ContractLogicError`` if it would revert.
    """
    from eth_account import Account

    from x402_django.chain.devchain.accounts import dev_accounts
    from x402_django.testing.chain import send_transaction

    account = account or Account.from_key(dev_accounts()[8].private_key)
    receipt = send_transaction(w3, account, transfer_call(w3, body))
    return "0x" + bytes(receipt["transactionHash"]).hex()


def transfer_call(w3: Web3, body: Mapping[str, Any]) -> dict[str, Any]:
    """``to`` and ``data`` of the call that moves the money of a facilitator request."""
    from x402_django.testing.chain import token_contract

    authorization = authorization_of(body)
    contract = token_contract(w3, body["paymentRequirements"]["asset"])
    data = contract.get_function_by_signature(_TRANSFER)(
        authorization["from"],
        authorization["to"],
        int(authorization["value"]),
        int(authorization["validAfter"]),
        int(authorization["validBefore"]),
        bytes.fromhex(authorization["nonce"][2:]),
        bytes.fromhex(body["paymentPayload"]["payload"]["signature"][2:]),
    )._encode_transaction_data()
    return {"to": contract.address, "data": data, "value": 0}


def authorization_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The EIP-3009 authorization in a facilitator request."""
    authorization: Mapping[str, Any] = body["paymentPayload"]["payload"]["authorization"]
    return authorization
