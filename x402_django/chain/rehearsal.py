"""Would these payments settle now? Asked of a node in one call, however many they are.

The node runs the very transaction that would settle them and says which of them it settled, how
much gas that took, and which of the addresses have code. Only what plain accounts have signed is
rehearsed: a payer with code would run it in the middle of the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from x402_django.chain import multicall
from x402_django.chain.batch import Question, RpcRefused, ask_each
from x402_django.protocol.types import SignedPayment

#: Payments rehearsed at once: nodes take no more than 48 KiB of code (EIP-3860), and a payment is
#: half a KiB of it.
MOST: Final = 80

#: Run by ``eth_call`` as if to create a contract, which happens nowhere. Appended to it are three
#: parts: a target and the size of the second part (a word each), addresses (a word each), a call.
#: It answers with whether the call succeeded and the gas that it used (a word each), a byte for
#: each address that says whether there is code, and a byte for each result of ``aggregate3``,
#: if that is what was called, that says whether it succeeded.
_PROBE: Final = bytes.fromhex(
    "60963803806096600039"  # the input to memory, at 0; its size is P
    "5a8152"  # at P: the gas before
    "6000600060205160400180840390"  # where the call begins, and how long it is
    "60006000515af1"  # make it
    "5a8251038260200152"  # at P + 32: the gas that it used
    "8152"  # at P: whether it succeeded
    # After the call, for which the addresses were cold, as they will be for the transaction:
    "60005b602051811015605157"  # for each address
    "80604001513b15158160051c830160400153602001602f56"  # from P + 64 on: has it code?
    "5b60051c8101604001"  # behind these, the results
    "3d60008380013e"  # what was answered, to 2 P
    "81518280016020015102"  # how many results there are: none if the call failed
    "60005b81811015608e57"  # for each
    "838001604001808260051b01510151"  # its first word: whether it succeeded
    "81840153600101606d56"  # that as a byte
    "5b500181900390f3"  # answer with what is from P on
)

#: Of any transaction, and of each byte of its call (EIP-2028).
_BASE_GAS: Final = 21_000
_ZERO_BYTE_GAS: Final = 4
_BYTE_GAS: Final = 16


class CannotRehearse(Exception):
    """The node does not run it, or the network has no Multicall3."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of it, for each payment in their order.

    ``settles``: whether its transfer succeeds, in this order, and its token is a contract.
    ``plain``: whether its payer has no code. ``gas`` is what the transaction uses in all, its
    call included, as Ethereum counts.
    """

    settles: tuple[bool, ...]
    plain: tuple[bool, ...]
    gas: int


def rehearse(network: str, payments: Sequence[SignedPayment], *, max_gas: int) -> Rehearsal:
    """One RPC call for at most ``MOST`` payments; ``max_gas`` is what running them may use.

    Raises CannotRehearse, RpcUnavailable.
    """
    (answer,) = ask_each(network, [question(payments, max_gas=max_gas)])
    return read(payments, answer)


def question(payments: Sequence[SignedPayment], *, max_gas: int) -> Question:
    """What to ask, for callers that ask other things with it; see ``read``."""
    target, call = multicall.settling_call(payments)
    addresses = b"".join(map(multicall.address_word, _addresses(payments)))
    parts = (
        _PROBE,
        multicall.address_word(target),
        len(addresses).to_bytes(32, "big"),
        addresses,
        call,
    )
    return ("eth_call", [{"data": "0x" + b"".join(parts).hex(), "gas": hex(max_gas)}, "latest"])


def read(payments: Sequence[SignedPayment], answer: Any) -> Rehearsal:
    """The answer to ``question``, as ``ask_each`` gives it. Raises CannotRehearse."""
    if isinstance(answer, RpcRefused):
        raise CannotRehearse(answer.reason) from answer
    try:
        said = bytes.fromhex(answer[2:])
    except (TypeError, ValueError):
        raise CannotRehearse("the node's answer is no data") from None
    tokens = _tokens(payments)
    coded = said[64 : 64 + len(payments) + len(tokens)]
    results = said[64 + len(coded) :]
    if not any(said[:32]):  # a payer's code may have burnt the gas of all
        results = bytes(len(payments))
    elif len(payments) == 1:
        results = b"\x01"
    if len(coded) != len(payments) + len(tokens) or len(results) != len(payments):
        raise CannotRehearse("there is no Multicall3, or the node does not run the probe")
    contracts = {token for token, code in zip(tokens, coded[len(payments) :], strict=True) if code}
    _, call = multicall.settling_call(payments)
    return Rehearsal(
        settles=tuple(
            bool(success) and one.offer.asset in contracts
            for one, success in zip(payments, results, strict=True)
        ),
        plain=tuple(not code for code in coded[: len(payments)]),
        gas=int.from_bytes(said[32:64], "big") + _gas_of_call(call),
    )


def _addresses(payments: Sequence[SignedPayment]) -> list[str]:
    return [*(one.payer for one in payments), *_tokens(payments)]


def _tokens(payments: Sequence[SignedPayment]) -> list[str]:
    return list(dict.fromkeys(one.offer.asset for one in payments))


def _gas_of_call(call: bytes) -> int:
    zeros = call.count(0)
    return _BASE_GAS + _ZERO_BYTE_GAS * zeros + _BYTE_GAS * (len(call) - zeros)
