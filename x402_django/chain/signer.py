"""The SDK's facilitator signer over our RPC and outbox.

The SDK's scheme code turns every exception into "the payment failed". That is not good enough for
money, so the signer keeps what truly happened: ``trouble`` and ``transactions``. Whoever runs
scheme code over it judges by these, not by what the scheme code says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eth_abi.exceptions import DecodingError
from eth_typing import HexStr
from eth_utils.abi import (
    function_abi_to_4byte_selector,
    get_abi_input_types,
    get_abi_output_types,
)
from eth_utils.crypto import keccak
from web3.exceptions import ContractLogicError
from web3.types import TxParams

from x402_django.chain import outbox
from x402_django.chain.broadcast import look, look_once
from x402_django.chain.fees import MAX_GAS
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.chain.typed_data import recovers_to, typed_data_digest
from x402_django.conf import x402
from x402_django.exceptions import RpcUnavailable, SettlementFailed, SettlementUnknown
from x402_django.models import ChainTransaction

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

_EIP1271_MAGIC: Final = bytes.fromhex("1626ba7e")
_IS_VALID_SIGNATURE: Final = keccak(text="isValidSignature(bytes32,bytes)")[:4]
_BALANCE_OF: Final = keccak(text="balanceOf(address)")[:4]
#: How often a wallet that was just deployed is looked for: not all nodes are equally far.
_PATIENCE: Final = 5


@dataclass(frozen=True, slots=True)
class MinedTransaction:
    """A receipt in the shape the SDK reads; ``receipt`` is the node's whole answer."""

    status: int
    block_number: int
    tx_hash: str
    logs: list[Any]
    receipt: Mapping[str, Any]


class OutboxSigner:
    """Implements ``x402.mechanisms.evm.signer.FacilitatorEvmSigner``; one per payment.

    Args:
        network: CAIP-2.
        account: pays the gas.
        payment_id: the payment that ``write_contract`` settles; None to verify only.
        facilitator: alias of who settles it.
        max_gas: calls and transactions that need more fail.
        patient: whether to wait for the settlement's receipt, or to look once and leave the
            waiting to the caller.
    """

    def __init__(
        self,
        network: str,
        account: LocalAccount,
        *,
        payment_id: int | None = None,
        facilitator: str = "",
        max_gas: int = MAX_GAS,
        patient: bool = True,
    ) -> None:
        self.network = network
        self.account = account
        self.payment_id = payment_id
        self.facilitator = facilitator
        self.max_gas = max_gas
        self.patient = patient
        #: The transaction that settles the payment, once it is stored.
        self.settlement: ChainTransaction | None = None
        #: The first thing that went wrong other than the contract saying no.
        self.trouble: Exception | None = None
        #: Transactions stored, in order.
        self.transactions: list[ChainTransaction] = []
        self._mined: dict[str, MinedTransaction] = {}
        #: When to stop waiting for receipts, by ``time.monotonic``.
        self.deadline: float | None = None

    @property
    def transport_error(self) -> RpcUnavailable | None:
        """The first time no node answered, if that was the first trouble."""
        return self.trouble if isinstance(self.trouble, RpcUnavailable) else None

    def get_addresses(self) -> list[str]:
        """The settlement wallet's address."""
        return [str(self.account.address)]

    def get_chain_id(self) -> int:
        """Of the configured network; ``get_web3`` has compared it with the node's."""
        return x402.network(self.network).chain_id

    def get_code(self, address: str) -> bytes:
        """Bytecode at ``address``; empty for an EOA. Raises RpcUnavailable."""
        with self._watched():
            return bytes(get_web3(self.network).eth.get_code(checksum(address)))

    def get_balance(self, address: str, token_address: str) -> int:
        """Atomic units of a token. Raises RpcUnavailable, ContractLogicError."""
        answer = self._call(token_address, _BALANCE_OF + _word(address))
        if len(answer) != 32:
            raise ContractLogicError("the token has no balanceOf")
        return int.from_bytes(answer, "big")

    def read_contract(
        self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any
    ) -> Any:
        """Call a function; one output comes as itself, several as a list, none as None.

        Raises ContractLogicError if it reverts or does not answer as its ABI says (a payer's
        wallet is whatever the payer deployed), RpcUnavailable if no node answers.
        """
        function = _function(abi, function_name)
        answer = self._call(address, self._encode(function, args))
        outputs = get_abi_output_types(function)  # type: ignore[arg-type]
        if not outputs:
            return None
        try:
            values = get_web3(self.network).codec.decode(outputs, answer)
        except (DecodingError, ValueError, OverflowError) as error:
            raise ContractLogicError("the contract's answer does not fit its ABI") from error
        return values[0] if len(values) == 1 else list(values)

    def verify_typed_data(
        self,
        address: str,
        domain: Any,
        types: Mapping[str, Any],
        primary_type: str,
        message: Mapping[str, Any],
        signature: bytes,
    ) -> bool:
        """Whether ``address`` signed this EIP-712 message, decided as tokens decide it.

        An address with code is asked (EIP-1271) and nothing else counts, so that a delegated
        EOA (EIP-7702) is not taken at its key's word.
        """
        digest = typed_data_digest(domain, types, primary_type, message)
        if not self.get_code(address):
            return recovers_to(digest, signature, address)
        codec = get_web3(self.network).codec
        data = _IS_VALID_SIGNATURE + codec.encode(["bytes32", "bytes"], [digest, signature])
        try:
            return self._call(address, data)[:4] == _EIP1271_MAGIC
        except ContractLogicError:
            return False

    def write_contract(
        self,
        address: str,
        abi: list[dict[str, Any]],
        function_name: str,
        *args: Any,
        data_suffix: str | None = None,
    ) -> str:
        """Send a call that settles the payment; its hash. Raises as ``outbox.send``."""
        data = self._encode(_function(abi, function_name), args)
        if data_suffix:
            data += bytes.fromhex(data_suffix.removeprefix("0x"))
        if self.transactions:  # the payer's wallet was deployed: the payer comes first
            self._await_code(str(args[0] if isinstance(args[0], str) else args[0][0]))
        self.settlement = self._send(address, data)
        return self.settlement.hash

    def send_transaction(self, to: str, data: bytes) -> str:
        """Send a call that prepares a settlement (deploys the payer's wallet); its hash.

        One that is on its way already is waited for instead.
        """
        payment_id = self.payment_id
        row = None if payment_id is None else outbox.preparation_under_way(payment_id, to)
        if row is None:
            return self._send(to, data, prepares=True).hash
        self.transactions.append(outbox.rebroadcast(row))
        return row.hash

    def wait_for_transaction_receipt(self, tx_hash: str) -> MinedTransaction:
        """Poll until one of ours is mined, at most ``X402["SETTLEMENT_TIMEOUT"]`` seconds in all.

        Raises SettlementUnknown when that time is over. For a preparation it is trouble, too: no
        word on the payment, which may be settled later.
        """
        row = self._row(tx_hash)
        if self.deadline is None:
            self.deadline = time.monotonic() + x402.settlement_timeout
        interval = x402.network(self.network).poll_interval
        self._look(row)
        while tx_hash not in self._mined:
            remaining = self.deadline - time.monotonic()
            if remaining <= 0 or (row is self.settlement and not self.patient):
                doubt = SettlementUnknown(transaction=tx_hash)
                if self.settlement is None:
                    self.trouble = self.trouble or doubt
                raise doubt
            time.sleep(min(interval, remaining))
            self._look(row)
        return self._mined[tx_hash]

    def receipt_of(self, row: ChainTransaction) -> Mapping[str, Any] | None:
        """The receipt, if it was seen."""
        mined = self._mined.get(row.hash)
        return None if mined is None else mined.receipt

    def _look(self, row: ChainTransaction) -> None:
        if row.hash in self._mined:
            return
        try:
            receipt = look_once(row) if row.sends == 0 else look(row)
        except RpcUnavailable as error:
            self.trouble = self.trouble or error
            return
        if receipt is not None:
            self._mined[row.hash] = MinedTransaction(
                status=receipt["status"],
                block_number=receipt["blockNumber"],
                tx_hash=row.hash,
                logs=list(receipt["logs"]),
                receipt=receipt,
            )

    def _row(self, tx_hash: str) -> ChainTransaction:
        for row in self.transactions:
            if row.hash == tx_hash:
                return row
        row = ChainTransaction.objects.get(network=self.network, hash=tx_hash)
        self.transactions.append(row)
        return row

    def _await_code(self, address: str) -> None:
        """Give a node that is behind time to know the wallet that was just deployed."""
        for attempt in range(_PATIENCE):
            if attempt:
                time.sleep(x402.network(self.network).poll_interval)
            if self.get_code(address):
                return

    def _send(self, to: str, data: bytes, *, prepares: bool = False) -> ChainTransaction:
        with self._watched():
            row = outbox.send(
                network=self.network,
                account=self.account,
                to=to,
                data=data,
                facilitator=self.facilitator,
                max_gas=self.max_gas,
                note=False,
                payment_id=None if prepares else self.payment_id,
                prepares=self.payment_id if prepares else None,
            )
        self.transactions.append(row)
        return row

    def _call(self, address: str, data: bytes) -> bytes:
        call: TxParams = {
            "from": checksum(self.account.address),
            "to": checksum(address),
            "data": HexStr("0x" + data.hex()),
            "gas": self.max_gas,
        }
        with self._watched():
            return bytes(get_web3(self.network).eth.call(call))

    def _encode(self, function: dict[str, Any], args: tuple[Any, ...]) -> bytes:
        types = get_abi_input_types(function)  # type: ignore[arg-type]
        selector = function_abi_to_4byte_selector(function)  # type: ignore[arg-type]
        return selector + get_web3(self.network).codec.encode(types, args)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            with rpc_errors(self.network):
                yield
        except (ContractLogicError, SettlementFailed):
            raise
        except Exception as error:
            self.trouble = self.trouble or error
            raise


def _function(abi: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in abi:
        if entry.get("type") == "function" and entry.get("name") == name:
            return entry
    raise ValueError(f"The ABI has no function {name}.")


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
