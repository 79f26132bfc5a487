"""The signer that sends nothing: what would happen if the payment were settled now?"""

from __future__ import annotations

from typing import Any, Final

from x402_django.chain.signer import MinedTransaction, OutboxSigner

#: The hash of what was not sent; the SDK takes none of zeros alone.
_NOT_SENT: Final = "0x" + "1" * 64


class SimulatingSigner(OutboxSigner):
    """Carries out in a simulation what it is to send: nothing leaves, nothing is stored.

    Scheme code that settles over it says whether the payment would settle now.
    """

    def write_contract(
        self,
        address: str,
        abi: list[dict[str, Any]],
        function_name: str,
        *args: Any,
        data_suffix: str | None = None,
    ) -> str:
        """Simulate a call that settles the payment. Raises ContractLogicError if it reverts."""
        self.read_contract(address, abi, function_name, *args)
        return _NOT_SENT

    def send_transaction(self, to: str, data: bytes) -> str:
        """Simulate a call that prepares a settlement. Raises ContractLogicError if it reverts."""
        self._call(to, data)
        return _NOT_SENT

    def wait_for_transaction_receipt(self, tx_hash: str) -> MinedTransaction:
        """The receipt of a success."""
        return MinedTransaction(status=1, block_number=0, tx_hash=tx_hash, logs=[], receipt={})
