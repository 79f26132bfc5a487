"""A payer that sends its own transfer and proves it, for tests (docs/transfer-proofs.md).

challenge = read_challenge(client.get("/weather/"))
transaction = send_transfer(w3, account, challenge)
headers = sign_proof(account, challenge, transaction)
client.get("/weather/", headers=headers)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from x402_django.constants import PROOF_HEADERS, TRANSFER_REQUIRED_HEADER

if TYPE_CHECKING:
    from django.http import HttpResponse
    from eth_account.signers.local import LocalAccount
    from web3 import Web3


def read_challenge(response: HttpResponse) -> dict[str, Any]:
    """The challenge on a 402. Raises KeyError if it names none."""
    challenge: dict[str, Any] = json.loads(response[TRANSFER_REQUIRED_HEADER])
    return challenge


def transfer_data(
    w3: Web3, challenge: Mapping[str, Any], *, to: str | None = None, amount: int | None = None
) -> dict[str, Any]:
    """``to`` and ``data`` of the transfer that a challenge asks for, or of another one."""
    from x402_django.testing.chain import token_contract

    token = token_contract(w3, challenge["asset"])
    arguments = [to or challenge["payTo"], int(challenge["amount"]) if amount is None else amount]
    return {"to": token.address, "data": token.encode_abi("transfer", arguments), "value": 0}


def send_transfer(
    w3: Web3,
    account: LocalAccount,
    challenge: Mapping[str, Any],
    *,
    to: str | None = None,
    amount: int | None = None,
) -> str:
    """Send the transfer (``account`` needs gas) and wait until it is mined; its hash, 0x-hex."""
    from x402_django.testing.chain import send_transaction

    receipt = send_transaction(w3, account, transfer_data(w3, challenge, to=to, amount=amount))
    return "0x" + bytes(receipt["transactionHash"]).hex()


def sign_proof(
    account: LocalAccount,
    challenge: Mapping[str, Any],
    transaction: str,
    *,
    header: str = PROOF_HEADERS[0],
    **changes: Any,
) -> dict[str, str]:
    """The header that proves ``transaction``, signed by ``account``; ``changes`` replace keys.

    The text is put together here anew, from the documentation alone, and not by the code that
    verifies it.
    """
    from eth_account.messages import encode_defunct

    text = (
        "x402 transfer proof\n"
        f"challenge: {challenge['challengeId']}\n"
        f"transaction: {transaction.lower()}"
    )
    signed = account.sign_message(encode_defunct(text=text))
    proof = {
        "txHash": transaction,
        "chainId": challenge["chainId"],
        "challengeId": challenge["challengeId"],
        "signature": "0x" + bytes(signed.signature).hex(),
        **changes,
    }
    return {header: json.dumps({key: value for key, value in proof.items() if value is not None})}
