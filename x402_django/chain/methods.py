"""What proves on chain that a payment was settled, for each transfer method.

=========== ====================================== =============================================
method      used, if                               settled, if one successful transaction has
=========== ====================================== =============================================
EIP-3009    ``authorizationState`` of the token    the token's ``AuthorizationUsed`` and the
                                                   ``Transfer`` that follows it
Permit2     the nonce's bit in ``nonceBitmap``     the payer's permit in its call data, and a
                                                   ``Transfer`` followed by the proxy's event
channel     the same of its deposit as EIP-3009    the ``Transfer`` to the escrow's collector
=========== ====================================== =============================================

Permit2 and the proxies emit no event that names a payment, so the call data is looked into: the
permit's words stand there as they were signed. That they are merely *mentioned* would prove
nothing, and neither would a transfer; so the transfer must be one that the proxy has made, and
each such transfer pays for one permit of the call data, in their order. Where there are more
permits than transfers, those count whose nonces were used in that very block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from eth_typing import HexStr
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound
from web3.types import BlockIdentifier, FilterParams, TxParams

from x402_django.chain.rpc import checksum
from x402_django.constants import (
    COLLECTOR_ADDRESS,
    PERMIT2_ADDRESS,
    SCHEME_EXACT,
    SCHEME_UPTO,
    TRANSFER_CHANNEL,
    TRANSFER_EIP3009,
    TRANSFER_PERMIT2,
)
from x402_django.exceptions import RpcUnavailable
from x402_django.protocol.channels import terms_of
from x402_django.protocol.transfer_methods import PROXIES
from x402_django.protocol.types import SignedPayment

AUTHORIZATION_USED: Final = keccak(text="AuthorizationUsed(address,bytes32)")
TRANSFER: Final = keccak(text="Transfer(address,address,uint256)")
_AUTHORIZATION_STATE: Final = keccak(text="authorizationState(address,bytes32)")[:4]
_NONCE_BITMAP: Final = keccak(text="nonceBitmap(address,uint256)")[:4]
#: With which x402's Permit2 proxies close a settlement; they carry no payment's name.
PROXY_EVENTS: Final = frozenset((keccak(text="Settled()"), keccak(text="SettledWithPermit()")))
_PROXIES: Final = frozenset(proxy.lower() for proxy in PROXIES.values())
_WORD: Final = 32

_PERMIT: Final = "((address,uint256),uint256,uint256)"
_PERMIT_2612: Final = "(uint256,uint256,bytes32,bytes32,uint8)"
#: Where the permit stands in the call data of the proxies' functions, by selector.
_ARGUMENTS: Final = {
    scheme: {
        keccak(text=f"settle({_PERMIT},{rest}")[:4]: 4,
        keccak(text=f"settleWithPermit({_PERMIT_2612},{_PERMIT},{rest}")[:4]: 4 + 5 * _WORD,
    }
    for scheme, rest in (
        (SCHEME_EXACT, "address,(address,uint256),bytes)"),
        (SCHEME_UPTO, "uint256,address,(address,address,uint256),bytes)"),
    )
}


class Method(Protocol):
    """What a transfer method leaves on chain. Call under ``rpc_errors``."""

    def is_used(self, w3: Web3, signed: SignedPayment, block: BlockIdentifier) -> bool:
        """Whether the authorization was used or cancelled, as of ``block``.

        Raises RpcUnavailable if the contract that keeps its nonces does not say.
        """

    def log_filter(self, signed: SignedPayment) -> FilterParams:
        """Logs that the settlement's transaction must have among its own."""

    def paying_log(self, w3: Web3, receipt: Mapping[str, Any], signed: SignedPayment) -> int | None:
        """The index of the log that pays ``signed`` in a receipt, or None if it does not."""


def method_for(signed: SignedPayment) -> Method:
    """The transfer method of a payment."""
    return _METHODS[signed.offer.transfer_method]


class Eip3009:
    """Its authorizations have an event of the token's, and cost no look beyond the receipt."""

    def is_used(self, w3: Web3, signed: SignedPayment, block: BlockIdentifier) -> bool:
        data = _AUTHORIZATION_STATE + address_word(signed.payer) + bytes.fromhex(signed.nonce[2:])
        return any(_ask(w3, signed, signed.offer.asset, data, block))

    def log_filter(self, signed: SignedPayment) -> FilterParams:
        nonce = bytes.fromhex(signed.nonce[2:])
        return _filter(signed, [AUTHORIZATION_USED, address_word(signed.payer), nonce])

    def paying_log(self, w3: Web3, receipt: Mapping[str, Any], signed: SignedPayment) -> int | None:
        return transfer_in_receipt(receipt, signed)


class Permit2:
    """Its nonces are bits of words, and its settlements are known by their call data."""

    def is_used(self, w3: Web3, signed: SignedPayment, block: BlockIdentifier) -> bool:
        nonce = int(signed.nonce, 16)
        data = _NONCE_BITMAP + address_word(signed.payer) + (nonce >> 8).to_bytes(_WORD, "big")
        bitmap = int.from_bytes(_ask(w3, signed, PERMIT2_ADDRESS, data, block), "big")
        return bool(bitmap >> (nonce & 0xFF) & 1)

    def log_filter(self, signed: SignedPayment) -> FilterParams:
        payee = address_word(signed.offer.pay_to)
        return _filter(signed, [TRANSFER, address_word(signed.payer), payee])

    def paying_log(self, w3: Web3, receipt: Mapping[str, Any], signed: SignedPayment) -> int | None:
        if receipt["status"] != 1:
            return None
        transfers = _through_proxy(receipt["logs"], signed)
        if not transfers:
            return None
        try:
            transaction = w3.eth.get_transaction(receipt["transactionHash"])
        except TransactionNotFound:
            return None  # the node has its receipt and not itself: it may, later
        permits = _permits(transaction, signed)
        if len(permits) != len(transfers):  # some were not carried out, or only mentioned
            number = receipt["blockNumber"]
            permits = [one for one in permits if self._was_used_in(w3, signed, one, number)]
        wanted = _permit(signed)
        if wanted not in permits or len(permits) != len(transfers):
            return None
        return transfers[permits.index(wanted)]

    def _was_used_in(self, w3: Web3, signed: SignedPayment, permit: bytes, number: int) -> bool:
        other = replace(signed, nonce="0x" + permit[2 * _WORD : 3 * _WORD].hex())
        return self.is_used(w3, other, number) and not self.is_used(w3, other, number - 1)


class Channel:
    """What is on chain of a payment by a channel is the deposit that came with it (EIP-3009).

    The authorization's nonce names the channel, and only the collector can use it, which passes
    it on to the escrow.
    """

    def is_used(self, w3: Web3, signed: SignedPayment, block: BlockIdentifier) -> bool:
        data = _AUTHORIZATION_STATE + address_word(signed.payer) + self._nonce(signed)
        return any(_ask(w3, signed, signed.offer.asset, data, block))

    def log_filter(self, signed: SignedPayment) -> FilterParams:
        payer = address_word(signed.payer)
        return _filter(signed, [AUTHORIZATION_USED, payer, self._nonce(signed)])

    def paying_log(self, w3: Web3, receipt: Mapping[str, Any], signed: SignedPayment) -> int | None:
        deposit = terms_of(signed).deposit
        if receipt["status"] != 1 or deposit is None:
            return None
        logs = (log for log in receipt["logs"] if _same(log["address"], signed.offer.asset))
        used = [AUTHORIZATION_USED, address_word(signed.payer), self._nonce(signed)]
        parties = [TRANSFER, address_word(signed.payer), address_word(COLLECTOR_ADDRESS)]
        for authorization, moved, log in authorized_transfers(logs):
            amount = int.from_bytes(bytes(log["data"]), "big")
            if authorization == used and moved == parties and amount == deposit.amount:
                return int(log["logIndex"])
        return None

    def _nonce(self, signed: SignedPayment) -> bytes:
        terms = terms_of(signed)
        if terms.deposit is None:
            raise RpcUnavailable("A voucher alone leaves nothing on chain.")
        return bytes.fromhex(terms.deposit.nonce(terms.channel_id)[2:])


def transfer_in_receipt(receipt: Mapping[str, Any], signed: SignedPayment) -> int | None:
    """The index of the log that pays ``signed`` (EIP-3009) in a receipt, or None.

    One transaction may carry several authorizations of the same payer and value, so each
    ``AuthorizationUsed`` is paired with its own ``Transfer``: the first matching one after it
    and before the token's next ``AuthorizationUsed``. Two payments never share a log.
    """
    if receipt["status"] != 1:
        return None
    logs = (log for log in receipt["logs"] if _same(log["address"], signed.offer.asset))
    used = [AUTHORIZATION_USED, address_word(signed.payer), bytes.fromhex(signed.nonce[2:])]
    for authorization, moved, log in authorized_transfers(logs):
        if authorization == used and _is_transfer(log, moved, signed):
            return int(log["logIndex"])
    return None


def authorized_transfers(
    logs: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[list[bytes], list[bytes], Mapping[str, Any]]]:
    """Each ``Transfer`` of one token in one transaction with the authorization it belongs to.

    Yields the topics of the last ``AuthorizationUsed`` before it, its own topics and its log, in
    the order of the logs. What comes before the first authorization belongs to none.
    """
    authorization: list[bytes] | None = None
    for log in sorted(logs, key=lambda log: int(log["logIndex"])):
        topics = [bytes(topic) for topic in log["topics"]]
        if topics[:1] == [AUTHORIZATION_USED]:
            authorization = topics
        elif topics[:1] == [TRANSFER] and authorization is not None:
            yield authorization, topics, log


def is_proxy_event(log: Mapping[str, Any], topics: list[bytes]) -> bool:
    """Whether a log is the event with which one of x402's Permit2 proxies closes a settlement."""
    return str(log["address"]).lower() in _PROXIES and not PROXY_EVENTS.isdisjoint(topics[:1])


def address_word(address: str) -> bytes:
    """An address as a topic or an argument: 32 bytes."""
    return bytes(12) + bytes.fromhex(address[2:])


def _through_proxy(logs: Iterable[Mapping[str, Any]], signed: SignedPayment) -> list[int]:
    """The logs of transfers as ``signed`` asks for, of those that the proxy made.

    The proxy's event closes a settlement; the payer's last transfer of the token before it is
    what it has moved.
    """
    found: list[int] = []
    last: int | None = None
    for log in sorted(logs, key=lambda log: int(log["logIndex"])):
        topics = [bytes(topic) for topic in log["topics"]]
        if _same(log["address"], signed.offer.asset) and _is_transfer(log, topics, signed):
            last = int(log["logIndex"])
        elif _same(log["address"], PROXIES[signed.offer.scheme]) and (
            not PROXY_EVENTS.isdisjoint(topics[:1])
        ):
            if last is not None:
                found.append(last)
            last = None
    return found


def _permits(transaction: Mapping[str, Any], signed: SignedPayment) -> list[bytes]:
    """The permits in a transaction's call data that ask for such a transfer, in their order.

    Arguments of a call stand together as they were signed: token, permitted, nonce, deadline,
    (amount,) payer, payee, (facilitator,) validAfter. Of a call of the proxy itself their place
    is known; inside of another contract's call they may be at any.
    """
    data = bytes(transaction["input"])
    scheme = signed.offer.scheme
    if _same(str(transaction["to"]), PROXIES[scheme]):
        start = _ARGUMENTS[scheme].get(data[:4])
        places = [] if start is None else [start]
    else:
        token = re.escape(address_word(signed.offer.asset))
        places = [match.start() for match in re.finditer(b"(?=%b)" % token, data)]
    length, payer = (9, 5) if scheme == SCHEME_UPTO else (7, 4)
    found: list[bytes] = []
    for start in places:
        words = data[start : start + length * _WORD]
        moved = words[4 * _WORD :] if scheme == SCHEME_UPTO else words[_WORD:]
        if (
            moved.startswith(signed.amount.to_bytes(_WORD, "big"))
            and words[payer * _WORD :].startswith(_parties(signed))
            and words not in found
        ):
            found.append(words)
    return found


def _permit(signed: SignedPayment) -> bytes:
    """The words of ``signed`` as ``_permits`` finds them."""
    offer = signed.offer
    words = [
        address_word(offer.asset),
        offer.amount.to_bytes(_WORD, "big"),
        bytes.fromhex(signed.nonce[2:]),
        signed.valid_before.to_bytes(_WORD, "big"),
        address_word(signed.payer),
        address_word(offer.pay_to),
        signed.valid_after.to_bytes(_WORD, "big"),
    ]
    if offer.scheme == SCHEME_UPTO:
        words.insert(4, signed.amount.to_bytes(_WORD, "big"))
        words.insert(7, address_word(offer.settler))
    return b"".join(words)


def _is_transfer(log: Mapping[str, Any], topics: list[bytes], signed: SignedPayment) -> bool:
    """Whether a log is the ``Transfer`` that ``signed`` asks for, to the unit."""
    amount = signed.amount.to_bytes(_WORD, "big")
    return b"".join(topics) == TRANSFER + _parties(signed) and bytes(log["data"]) == amount


def _parties(signed: SignedPayment) -> bytes:
    return address_word(signed.payer) + address_word(signed.offer.pay_to)


def _ask(
    w3: Web3, signed: SignedPayment, contract: str, data: bytes, block: BlockIdentifier
) -> bytes:
    """The one word that a contract answers. Raises RpcUnavailable if it does not."""
    call: TxParams = {"to": checksum(contract), "data": HexStr("0x" + data.hex())}
    try:
        answer = bytes(w3.eth.call(call, block))
    except ContractLogicError:
        answer = b""
    if len(answer) != _WORD:
        raise RpcUnavailable(
            f"The contract {contract} on {signed.offer.network} "
            "does not say whether an authorization was used."
        )
    return answer


def _filter(signed: SignedPayment, topics: list[bytes]) -> FilterParams:
    return {
        "address": checksum(signed.offer.asset),
        "topics": [HexStr("0x" + topic.hex()) for topic in topics],
    }


def _same(address: str, other: str) -> bool:
    return address.lower() == other.lower()


_METHODS: Final[dict[str, Method]] = {
    TRANSFER_EIP3009: Eip3009(),
    TRANSFER_PERMIT2: Permit2(),
    TRANSFER_CHANNEL: Channel(),
}
