"""The settlement wallets as an operator wants to see them: gas money, nonces, what is stuck."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.db.models import Avg

from x402_django import clock
from x402_django.chain.fees import current_fees
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.facilitators.base import get_facilitator
from x402_django.models import ChainTransaction, PaymentMethod, SettlementWallet

Status = ChainTransaction.Status

OPEN: Final = (Status.SIGNED, Status.SENT)
#: Mined transactions that the gas of the next one is estimated from.
_SAMPLE: Final = 100
#: Gas of a settlement where none was made yet: a transfer by authorization, generously.
_TYPICAL_GAS: Final = 100_000
#: Open transactions and missing nonces that are listed one by one; all are counted.
_LISTED: Final = 50


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that is not mined yet. ``age`` is in seconds, since it was signed."""

    hash: str
    nonce: int
    status: str
    age: float
    sends: int
    last_error: str
    is_stuck: bool


@dataclass(slots=True)
class WalletReport:
    """One wallet on one network. ``None`` is what could not be found out, or is not yet there.

    ``balance`` is in wei. ``settlements_left`` is how many transactions it pays for at the most
    that one would cost now, from the gas that the last ones used.
    """

    network: str
    address: str
    next_nonce: int | None = None
    balance: int | None = None
    mined_nonce: int | None = None
    pending_nonce: int | None = None
    settlements_left: int | None = None
    open_count: int = 0
    open: list[OpenTransaction] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)


def stuck_after() -> timedelta:
    """The age from which an open transaction counts as stuck: no request waits for it any more."""
    return timedelta(seconds=2 * x402.settlement_timeout + 30)


def wallet_reports(*, network: str | None = None, minimum: int = 100) -> list[WalletReport]:
    """Every wallet of the settings and of the ledger, by network and address.

    Args:
        network: this one alone (CAIP-2).
        minimum: fewer settlements left than this need attention.

    A network that cannot be read needs attention; that is no error here. Raises
    ConfigurationError where a wallet's key is not to be had.
    """
    rows = SettlementWallet.objects.values_list("network", "address", "next_nonce")
    nonces: dict[tuple[str, str], int] = {
        (name, checksum(address)): nonce for name, address, nonce in rows
    }
    return [
        _report(WalletReport(name, address, nonces.get((name, address))), minimum)
        for name, address in sorted({*_configured(), *nonces})
        if network in (None, name)
    ]


def _configured() -> Iterator[tuple[str, str]]:
    """Networks and addresses of the wallets that settle by the settings or a payment method."""
    methods = PaymentMethod.objects.filter(active=True).order_by()
    pairs = set(methods.values_list("network", "facilitator").distinct())
    pairs |= {(name, network.facilitator) for name, network in x402.networks.items()}
    for name, alias in pairs:
        if name in x402.networks and x402.networks[name].has_rpc and alias in x402.facilitators:
            for keeper in get_facilitator(alias).keepers():
                yield name, checksum(str(keeper.account.address))


def _report(report: WalletReport, minimum: int) -> WalletReport:
    _look_at_ledger(report)
    try:
        _look_at_chain(report)
    except (RpcUnavailable, ConfigurationError) as error:
        report.attention.append(f"The chain could not be read: {error}")
        return report
    _judge_nonces(report)
    if report.settlements_left is not None and report.settlements_left < minimum:
        report.attention.append(
            f"The balance is low: enough for about {report.settlements_left} settlements."
        )
    return report


def _look_at_ledger(report: WalletReport) -> None:
    rows = _rows(report).filter(status__in=OPEN)
    report.open_count = rows.count()
    now = clock.now()
    for row in rows.defer("raw").order_by("nonce")[:_LISTED]:
        age = now - row.created_at
        report.open.append(
            OpenTransaction(
                hash=row.hash,
                nonce=row.nonce,
                status=row.status,
                age=age.total_seconds(),
                sends=row.sends,
                last_error=row.last_error,
                is_stuck=age >= stuck_after(),
            )
        )
    stuck = rows.filter(created_at__lte=now - stuck_after()).count()
    if stuck:
        report.attention.append(
            f"{stuck} transaction{'s' * (stuck != 1)} not mined for longer than "
            f"{stuck_after().total_seconds():.0f} s."
        )


def _look_at_chain(report: WalletReport) -> None:
    w3 = get_web3(report.network)
    address = checksum(report.address)
    with rpc_errors(report.network):
        report.balance = int(w3.eth.get_balance(address))
        report.mined_nonce = w3.eth.get_transaction_count(address, "latest")
        report.pending_nonce = w3.eth.get_transaction_count(address, "pending")
    price = current_fees(report.network).max_fee
    report.settlements_left = report.balance // max(_gas(report) * price, 1)


def _gas(report: WalletReport) -> int:
    """What a transaction of this wallet uses, from the last ones."""
    newest = _rows(report).filter(gas_used__isnull=False).order_by("-pk")
    sample = newest.values_list("pk", flat=True)[:_SAMPLE]
    used = ChainTransaction.objects.filter(pk__in=list(sample)).aggregate(gas=Avg("gas_used"))
    return round(used["gas"]) if used["gas"] is not None else _TYPICAL_GAS


def _judge_nonces(report: WalletReport) -> None:
    """Every nonce between the chain's count and ours must have a transaction that can be sent."""
    if report.next_nonce is None or report.mined_nonce is None:
        return
    if report.mined_nonce > report.next_nonce:
        ahead = report.mined_nonce - report.next_nonce
        report.attention.append(
            f"The chain is {ahead} nonce{'s' * (ahead != 1)} ahead of the ledger: the key is used "
            "elsewhere too."
        )
        return
    wanted = report.next_nonce - report.mined_nonce
    there = (
        _rows(report)
        .filter(nonce__gte=report.mined_nonce, nonce__lt=report.next_nonce)
        .exclude(status=Status.DROPPED)
    )
    missing = wanted - there.count()
    if missing:
        report.attention.append(
            f"{missing} nonce{'s' * (missing != 1)} from {report.mined_nonce} on without a "
            "transaction: later ones cannot be mined."
        )


def _rows(report: WalletReport) -> Any:
    return ChainTransaction.objects.filter(network=report.network, wallet=report.address)
