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
from web3 import Web3
from web3.exceptions import ContractLogicError

from x402_django.chain import multicall, outbox
from x402_django.chain.broadcast import Verdict, look_once
from x402_django.chain.fees import Fees, current_fees, estimate_gas, within_ceiling
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
    max_gas: int,
) -> Departure:
    """Send those of ``riders`` that would settle now, in one transaction.

    Six RPC calls where all goes well, however many ride.

    Raises RpcUnavailable if no node was there, or all refused it: nothing was sent.
    """
    w3 = get_web3(network)
    departure = Departure()
    plan = _plan(w3, network, account, riders, max_gas, departure)
    if plan is None:
        return departure
    draft = Draft(
        network,
        account,
        checksum(multicall.MULTICALL3),
        multicall.aggregate(w3, [one.signed for one in plan.riders], allow_failure=True),
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
    w3: Web3,
    network: str,
    account: LocalAccount,
    riders: Sequence[Rider],
    max_gas: int,
    departure: Departure,
) -> _Plan | None:
    """Who rides, for how much gas; None if fewer than two. The others are put on ``departure``."""
    with rpc_errors(network):
        fit = _without_code(w3, network, list(riders), departure)
        if len(fit) < 2:
            departure.left += fit
            return None
        fees = within_ceiling(current_fees(w3), network)
        for _ in range(_ROUNDS):
            gas = _estimate(w3, account, fit, fees)
            if gas is not None and gas <= max_gas:
                return _Plan(fit, fees, gas)
            if gas is not None:  # in the measure in which it is too much
                keep = max(len(fit) * max_gas * 9 // (gas * 10), 1)
                departure.left += fit[keep:]
                fit = fit[:keep]
            else:
                fit = _that_settle(w3, account, fit, max_gas, departure)
            if len(fit) < 2:
                break
        else:  # the node simulates one way and estimates another
            departure.alone += fit
            return None
    departure.left += fit
    return None


def _without_code(w3: Web3, network: str, riders: list[Rider], departure: Departure) -> list[Rider]:
    try:
        if not multicall.is_deployed(w3):
            raise ContractLogicError("there is no Multicall3")
        code = multicall.have_code(w3, [one.signed.payer for one in riders])
    except ContractLogicError as error:
        logger.info("Payments on %s are not settled in groups: %s", network, error)
        departure.alone += riders
        return []
    departure.alone += [one for one, has_code in zip(riders, code, strict=True) if has_code]
    return [one for one, has_code in zip(riders, code, strict=True) if not has_code]


def _estimate(w3: Web3, account: LocalAccount, riders: list[Rider], fees: Fees) -> int | None:
    """The gas limit with which all settle; None if not all would.

    Estimated for a call in which none may fail: with failures allowed the least limit with
    which the transaction succeeds is one with which every payment in it fails.
    """
    data = multicall.aggregate(w3, [one.signed for one in riders], allow_failure=False)
    call: Any = {
        "from": account.address,
        "to": checksum(multicall.MULTICALL3),
        "data": HexStr("0x" + data.hex()),
        **fees.as_transaction(),
    }
    try:
        return estimate_gas(w3, call)
    except ContractLogicError:
        return None


def _that_settle(
    w3: Web3, account: LocalAccount, riders: list[Rider], max_gas: int, departure: Departure
) -> list[Rider]:
    """Leave out those that fail in one simulation of all."""
    try:
        good = multicall.simulate(w3, account.address, [one.signed for one in riders], gas=max_gas)
    except ContractLogicError:
        good = [False] * len(riders)
    departure.alone += [one for one, settles in zip(riders, good, strict=True) if not settles]
    return [one for one, settles in zip(riders, good, strict=True) if settles]


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
