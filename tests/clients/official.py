"""The official Python facilitator, unmodified, behind the three addresses of the protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, jsonify, request
from web3 import Web3
from werkzeug.serving import make_server
from x402.extensions.erc20_approval_gas_sponsoring import (
    Erc20ApprovalFacilitatorExtension,
    WriteContractCall,
)
from x402.facilitator import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
from x402.mechanisms.evm.upto.facilitator import UptoEvmScheme
from x402.schemas import PaymentRequirements, parse_payment_payload

from tests.clients.live import NETWORK


class PayingSigner(FacilitatorWeb3Signer):
    """The SDK leaves to its operators how a payer's approval is paid for: as a gift of ether."""

    def send_transactions(self, transactions: list[Any]) -> list[str]:
        hashes = []
        for one in transactions:
            if isinstance(one, WriteContractCall):
                sent = self.write_contract(one.address, one.abi, one.function, *one.args)
            else:
                self._give(one)
                sent = self._w3.eth.send_raw_transaction(one).to_0x_hex()
            hashes.append(sent)
            self.wait_for_transaction_receipt(sent)
        return hashes

    def _give(self, raw: str) -> None:
        payer = self._w3.eth.account.recover_transaction(raw)
        transaction = {
            "chainId": self.get_chain_id(),
            "nonce": self._reserve_nonce(),
            "to": payer,
            "value": Web3.to_wei("0.001", "ether"),
            "gas": 21_000,
            "gasPrice": 2 * self._w3.eth.gas_price,
        }
        signed = self._account.sign_transaction(transaction)
        sent = self._w3.eth.send_raw_transaction(signed.raw_transaction).to_0x_hex()
        self.wait_for_transaction_receipt(sent)


@contextmanager
def official_facilitator(rpc_url: str, private_key: str) -> Iterator[str]:
    """Its address while the block runs."""
    signer: Any = PayingSigner(private_key, rpc_url)
    facilitator = x402FacilitatorSync()
    facilitator.register([NETWORK], ExactEvmScheme(signer))
    facilitator.register([NETWORK], UptoEvmScheme(signer))
    facilitator.register_extension(Erc20ApprovalFacilitatorExtension(signer))  # type: ignore[arg-type]
    app = Flask("facilitator")

    def asked() -> tuple[Any, Any]:
        body = request.get_json()
        return (
            parse_payment_payload(body["paymentPayload"]),
            PaymentRequirements.model_validate(body["paymentRequirements"]),
        )

    def told(answer: Any) -> Any:
        return jsonify(answer.model_dump(by_alias=True, exclude_none=True))

    app.post("/verify")(lambda: told(facilitator.verify(*asked())))
    app.post("/settle", endpoint="settle")(lambda: told(facilitator.settle(*asked())))
    app.get("/supported", endpoint="supported")(lambda: told(facilitator.get_supported()))
    http = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
