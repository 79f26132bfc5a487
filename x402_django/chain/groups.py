"""Many payments in one transaction: simulated, stored, sent; and what its receipt says of each.

Only plain accounts ride together. A payer with code runs that code in the middle of the
transaction (EIP-1271) and could burn everybody's gas; such a payer is settled alone. One who
becomes such a payer between simulation and block can still spoil a group once, at our cost: those
who did not make it are then settled alone, each judged by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eth_typing import HexStr
from web3.exceptions import ContractLogicError

from x402_django.chain import multicall, outbox, rehearsal
from x402_django.chain.batch import ask_each
from x402_django.chain.broadcast import Verdict, look_once
from x402_django.chain.fees import FEE_QUESTIONS, Fees, fees_from, gas_limit, within_ceiling
from x402_django.chain.methods import AUTHORIZATION_USED, transfer_in_receipt
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.chain.storing import Draft, NotAboardError, Passenger
from x402_django.exceptions import RpcUnavailable
from x402_django.models import ChainTransaction
from x402_django.protocol.types import Settlement, SignedPayment

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

logger = logging.getLogger("x402_django.chain")

#: Rounds of looking for payments that would fail, before all are left to themselves.
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Rider:
    """A payment that may ride in a group; see ``storing.Passenger``."""

    payment_id: int
    signed: SignedPayment
    ours: bool = True
    queued: bool = False

    def as_passenger(self) -> Passenger:
        """As the outbox stores it."""
        return Passenger(self.payment_id, ours=self.ours, queued=self.queued)


@dataclass(slots=True)
class Departure:
    """What became of a group.

    ``row`` is the stored transaction with ``aboard`` in it, or None if none was stored;
    ``alone`` would not settle with the others, ``elsewhere`` were not there any more, and
    ``left`` are for another group.
    """

    row: ChainTransaction | None = None
    receipt: Mapping[str, Any] | None = None
    aboard: list[Rider] = field(default_factory=list)
    alone: list[Rider] = field(default_factory=list)
    elsewhere: list[Rider] = field(default_factory=list)
    left: list[Rider] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Limits:
    """Gas that a transaction may use: of one payment, and of a group."""

    single: int
    group: int

    def of(self, riders: Sequence[Rider]) -> int:
        """That of a transaction which settles ``riders``."""
        return self.group if len(riders) > 1 else self.single


@dataclass(frozen=True, slots=True)
class _Plan:
    riders: list[Rider]
    fees: Fees
    gas: int


def depart(
    network: str,
    account: LocalAccount,
    riders: Sequence[Rider],
    *,
    facilitator: str,
    limits: Limits,
) -> Departure:
    """Send those of ``riders`` that would settle now, in one transaction.

    One that is left, or was alone from the start, goes to its token without Multicall3. Three
    requests to a node where all goes well, however many ride.

    Raises RpcUnavailable if no node was there, or all refused it: nothing was sent.
    """
    departure = Departure()
    plan = _plan(network, account, riders, limits, departure)
    if plan is None:
        return departure
    target, call = multicall.settling_call(_signed(plan.riders))
    draft = Draft(
        network,
        account,
        checksum(target),
        call,
        plan.gas,
        plan.fees,
        tuple(one.as_passenger() for one in plan.riders),
        facilitator,
    )
    try:
        row, verdict = outbox.attempt(draft, note=False)
    except NotAboardError as error:
        for one in plan.riders:
            place = error.places.get(one.payment_id)
            gone = place.status != place.Status.WAITING if place is not None else not one.ours
            (departure.elsewhere if gone else departure.left).append(one)
        return departure
    if verdict is Verdict.SUPERSEDED:
        departure.left += plan.riders
        return departure
    departure.row, departure.aboard = row, plan.riders
    if verdict is Verdict.SENT:
        try:
            departure.receipt = look_once(row)
        except RpcUnavailable as error:
            logger.warning("The receipt of %s cannot be had: %s", row.hash, error)
    return departure


def judge(
    receipt: Mapping[str, Any], block_hash: str, riders: Sequence[SignedPayment]
) -> list[Settlement | None]:
    """What a receipt proves for each of ``riders``: its own authorization and transfer."""
    own_logs = _by_authorization(receipt)
    transaction = "0x" + bytes(receipt["transactionHash"]).hex()
    verdicts: list[Settlement | None] = []
    for signed in riders:
        logs = own_logs.get((signed.offer.asset.lower(), signed.payer.lower(), signed.nonce), [])
        log_index = transfer_in_receipt({"status": receipt["status"], "logs": logs}, signed)
        verdicts.append(
            None
            if log_index is None
            else Settlement(transaction, receipt["blockNumber"], block_hash, log_index)
        )
    return verdicts


def _plan(
    network: str,
    account: LocalAccount,
    riders: Sequence[Rider],
    limits: Limits,
    departure: Departure,
) -> _Plan | None:
    """Who rides, for how much gas; None if nobody. The others are put on ``departure``."""
    fit = list(riders)[: rehearsal.MOST]
    departure.left += riders[len(fit) :]
    for _ in range(_ROUNDS):
        if not fit:
            return None
        asked, *fees_said = ask_each(
            network, [rehearsal.question(_signed(fit), max_gas=2 * limits.group), *FEE_QUESTIONS]
        )
        try:
            seen = rehearsal.read(_signed(fit), asked)
        except rehearsal.CannotRehearse as error:
            logger.info("Payments on %s are not settled in groups: %s", network, error)
            break
        fees = within_ceiling(fees_from(network, *fees_said), network)
        # Code that has run may have spoilt it for the others: then they are looked at again.
        good = seen.settles if all(seen.plain) else seen.plain
        departure.alone += [one for one, fits in zip(fit, good, strict=True) if not fits]
        fit = [one for one, fits in zip(fit, good, strict=True) if fits]
        if good is not seen.settles:
            continue
        limit = _gas_limit(network, account, fit, fees, seen.gas) if fit else None
        if limit is not None and limit <= limits.of(fit):
            return _Plan(fit, fees, limit)
        if limit is not None:  # in the measure in which it is too much
            keep = len(fit) * limits.of(fit) * 9 // (limit * 10)
            departure.left += fit[keep:] if keep else fit[1:]
            fit = fit[: max(keep, 1)]
    departure.alone += fit
    return None


def _gas_limit(
    network: str, account: LocalAccount, riders: list[Rider], fees: Fees, counted: int
) -> int | None:
    """The gas limit with which all settle; None if the node thinks that not all would.

    Estimated for a call in which none may fail: with failures allowed the least limit with
    which the transaction succeeds is one with which every payment in it fails.
    """
    target, data = multicall.settling_call(_signed(riders))
    if len(riders) > 1:
        data = multicall.aggregate(_signed(riders), allow_failure=False)
    call: Any = {
        "from": account.address,
        "to": checksum(target),
        "data": HexStr("0x" + data.hex()),
        **fees.as_transaction(),
    }
    with rpc_errors(network):
        try:
            return gas_limit(get_web3(network), network, call, counted)
        except ContractLogicError:
            return None


def _signed(riders: Sequence[Rider]) -> list[SignedPayment]:
    return [one.signed for one in riders]


def _by_authorization(receipt: Mapping[str, Any]) -> dict[tuple[str, str, str], list[Any]]:
    """The logs of each authorization, up to the token's next one."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    current: dict[str, list[Any]] = {}
    for log in sorted(receipt["logs"], key=lambda log: int(log["logIndex"])):
        token = log["address"].lower()
        topics = log["topics"]
        if len(topics) == 3 and bytes(topics[0]) == AUTHORIZATION_USED:
            payer = "0x" + bytes(topics[1])[12:].hex()
            current[token] = found.setdefault((token, payer, "0x" + bytes(topics[2]).hex()), [])
        if token in current:
            current[token].append(log)
    return found
