"""A payer's signed transaction that approves Permit2 (``erc20ApprovalGasSponsoring``).

It is decoded here rather than handed on: whoever settles sends it, and pays what it costs, so it
must be one ``approve`` of the offer's token, by the payment's payer, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NoReturn

from x402_django.constants import PERMIT2_ADDRESS
from x402_django.exceptions import PaymentRefused
from x402_django.protocol.networks import parse_chain_id
from x402_django.protocol.signatures import recover_signer
from x402_django.protocol.typed_data import address_word, keccak, word

#: The type of a transaction with two fees (EIP-1559).
_TYPE: Final = b"\x02"
#: ``approve(address,uint256)``.
_APPROVE: Final = bytes.fromhex("095ea7b3")
#: Chain, nonce, two fees, gas, to, value, data, access list; what is signed.
_SIGNED_FIELDS: Final = 9


@dataclass(frozen=True, slots=True)
class Approval:
    """``raw`` is what nodes take, ``hash`` its hash; fees are in wei per gas.

    ``amount`` is how much of the token Permit2 may move, in atomic units.
    """

    raw: bytes
    hash: str
    nonce: int
    gas: int
    max_fee: int
    priority_fee: int
    amount: int

    @property
    def call(self) -> bytes:
        """What the token is called with."""
        return _APPROVE + address_word(PERMIT2_ADDRESS) + word(self.amount)

    @property
    def cost(self) -> int:
        """Wei that the payer must have for it to be mined."""
        return self.gas * self.max_fee


def decode_approval(raw: bytes, *, network: str, payer: str, token: str) -> Approval:
    """The approval in a signed EIP-1559 transaction. ``network`` is CAIP-2.

    Raises PaymentRefused: it is none, or of another payer, token, spender or chain.
    """
    fields = _decode(raw)
    chain_id, nonce, priority_fee, max_fee, gas = map(_number, fields[:5])
    to, value, data, access_list, parity = fields[5:10]
    if chain_id != parse_chain_id(network):
        _refuse("is for another chain", "wrong_chain")
    if to != address_word(token)[12:] or value:
        _refuse("does not call the token, or sends money along", "wrong_target")
    if len(data) != 68 or data[:4] != _APPROVE or access_list:
        _refuse("is no plain call of 'approve'", "wrong_selector")
    if data[4:36] != address_word(PERMIT2_ADDRESS):
        _refuse("approves another spender than Permit2", "wrong_spender")
    signer = _signer(fields, parity)
    if signer != payer:
        _refuse("was not signed by the payer", "signer_mismatch")
    return Approval(
        raw=raw,
        hash="0x" + keccak()(raw).hex(),
        nonce=nonce,
        gas=gas,
        max_fee=max_fee,
        priority_fee=priority_fee,
        amount=int.from_bytes(data[36:], "big"),
    )


def _decode(raw: bytes) -> list[Any]:
    import rlp
    from rlp.exceptions import RLPException

    try:
        fields = rlp.decode(raw[1:]) if raw[:1] == _TYPE else None
    except RLPException:
        fields = None
    if not isinstance(fields, list) or len(fields) != _SIGNED_FIELDS + 3:
        _refuse("is no signed EIP-1559 transaction", "parse_failed")
    if not all(isinstance(field, bytes) for field in fields[:8] + fields[9:]):
        _refuse("is no signed EIP-1559 transaction", "parse_failed")
    return list(fields)


def _signer(fields: list[Any], parity: bytes) -> str | None:
    import rlp

    digest = keccak()(_TYPE + rlp.encode(fields[:_SIGNED_FIELDS]))
    r, s = (field.rjust(32, b"\0") for field in fields[10:])
    if parity not in (b"", b"\x01") or len(r) != 32 or len(s) != 32:
        return None
    return recover_signer(digest, r + s + (parity or b"\0"))


def _number(field: bytes) -> int:
    if field[:1] == b"\0" or len(field) > 32:
        _refuse("has a malformed number", "parse_failed")
    return int.from_bytes(field, "big")


def _refuse(what: str, code: str) -> NoReturn:
    raise PaymentRefused(
        f"The payment's approval transaction {what}.", code=f"erc20_approval_tx_{code}"
    )
