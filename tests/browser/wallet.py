"""A person's wallet: it signs for real, and does what its owner would do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account.messages import encode_defunct, encode_typed_data

from tests.clients.live import CHAIN_ID
from x402_django.chain.devchain import DevChain

SCRIPT = Path(__file__).with_name("wallet.js")
MAINNET = 1


class Declined(Exception):
    """What the provider rejects with: an EIP-1193 error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Wallet:
    """``known`` are the chains it has; ``declines`` the methods its owner says no to.

    ``is_unsure``: it sends a transaction, and then says that something went wrong.
    """

    chain: DevChain
    account: Any
    chain_id: int = CHAIN_ID
    known: set[int] = field(default_factory=lambda: {MAINNET, CHAIN_ID})
    declines: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    signed: list[dict[str, Any]] = field(default_factory=list)
    added: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    is_unsure: bool = False

    def request(self, method: str, params: list[Any]) -> dict[str, Any]:
        """Answer one EIP-1193 request: ``{"result": …}`` or ``{"error": …}``."""
        self.asked[method] += 1
        try:
            if method in self.declines:
                raise Declined(4001, "User rejected the request.")
            return {"result": self._answer(method, params)}
        except Declined as no:
            return {"error": {"code": no.code, "message": str(no)}}

    @property
    def signatures(self) -> int:
        """How often its owner was asked to sign."""
        return self.asked["eth_signTypedData_v4"]

    def _answer(self, method: str, params: list[Any]) -> Any:
        if method == "eth_requestAccounts":
            return [self.account.address]
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "wallet_switchEthereumChain":
            return self._switch(int(params[0]["chainId"], 16))
        if method == "wallet_addEthereumChain":
            self.added.append(params[0])
            self.known.add(int(params[0]["chainId"], 16))
            return self._switch(int(params[0]["chainId"], 16))
        if method == "eth_call":
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return self.chain.handle(request)["result"]
        if method == "eth_signTypedData_v4":
            return self._sign(params)
        if method == "eth_sendTransaction":
            return self._send(params[0])
        if method == "personal_sign":
            return self._sign_text(params)
        raise Declined(-32601, f"This wallet does not know {method}.")

    def _send(self, transaction: dict[str, Any]) -> str:
        from web3 import Web3

        if transaction["from"] != self.account.address or self.chain_id != CHAIN_ID:
            raise Declined(-32602, "That is another account or chain.")
        eth = Web3(self.chain.provider()).eth
        filled = {
            "to": transaction["to"],
            "data": transaction["data"],
            "value": int(transaction["value"], 16),
            "nonce": eth.get_transaction_count(self.account.address),
            "gas": 120_000,
            "gasPrice": eth.gas_price,
            "chainId": self.chain_id,
        }
        signed = self.account.sign_transaction(filled)
        sent = "0x" + bytes(eth.send_raw_transaction(signed.raw_transaction)).hex()
        self.sent.append(transaction)
        if self.is_unsure:
            raise Declined(-32603, "Internal error.")
        return sent

    def _sign_text(self, params: list[str]) -> str:
        text, address = params
        if address != self.account.address:
            raise Declined(-32602, "That is another account.")
        message = encode_defunct(hexstr=text)
        return "0x" + bytes(self.account.sign_message(message).signature).hex()

    def _switch(self, chain_id: int) -> None:
        if chain_id not in self.known:
            raise Declined(4902, "Unrecognized chain ID.")
        self.chain_id = chain_id

    def _sign(self, params: list[Any]) -> str:
        address, document = params
        typed = json.loads(document)
        if address != self.account.address or typed["domain"]["chainId"] != self.chain_id:
            raise Declined(-32602, "That is another account or chain.")
        self.signed.append(typed)
        signature = self.account.sign_message(encode_typed_data(full_message=typed)).signature
        return "0x" + bytes(signature).hex()
