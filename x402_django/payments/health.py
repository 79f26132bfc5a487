"""Whether money is being looked after, from the ledger alone: no network is asked for anything.

Cheap enough to be asked every few seconds: a handful of queries that indexes answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from x402_django import clock
from x402_django.conf import x402
from x402_django.models import ChainScan, Payment, SettlementWallet
from x402_django.payments.periodic import conditions, is_overdue

#: How long an outcome may be unknown before somebody should look.
UNKNOWN_FOR: Final = timedelta(minutes=10)
#: How long what was paid may wait to be delivered before somebody should look.
OWED_FOR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``sentence`` says what is wrong and what to do; empty if it is well."""

    name: str
    sentence: str = ""

    @property
    def is_well(self) -> bool:
        return not self.sentence


def findings() -> list[Finding]:
    """Everything that is looked at, well or not. Raises django.db.Error without a database."""
    return [_tasks(), _scans(), _outcomes(), _debts(), _wallets()]


def _tasks() -> Finding:
    overdue = [one.name for one in conditions() if one.is_overdue]
    if not overdue:
        return Finding("tasks")
    return Finding(
        "tasks",
        f"No run of {', '.join(overdue)} has come to its end lately. Start a Celery worker and "
        "beat, or run manage.py x402_confirm, x402_settle, x402_channels and x402_release from "
        "a timer.",
    )


def _scans() -> Finding:
    between = timedelta(seconds=x402.confirmation_interval)
    finished = dict(ChainScan.objects.values_list("network", "finished_at"))
    overdue = [
        name
        for name, network in x402.networks.items()
        if network.has_rpc and is_overdue(finished.get(name), between)
    ]
    if not overdue:
        return Finding("scans")
    return Finding(
        "scans",
        f"{', '.join(overdue)} was not read lately, so nothing is confirmed there. See whether "
        "its RPC_URLS answer, and the log of x402_django.chain.",
    )


def _outcomes() -> Finding:
    deadline = clock.now() - UNKNOWN_FOR
    unknown = Payment.objects.filter(state=Payment.State.SETTLING, outcome_unknown_at__lt=deadline)
    if not unknown.order_by().exists():
        return Finding("outcomes")
    return Finding(
        "outcomes",
        "The outcome of a payment has been unknown for more than ten minutes. See whether the "
        "node answers and the worker runs; the payment is honoured as soon as the chain tells.",
    )


def _debts() -> Finding:
    owed = Payment.objects.debts().filter(state_changed_at__lt=clock.now() - OWED_FOR)
    if not owed.order_by().exists():
        return Finding("debts")
    return Finding(
        "debts",
        "Something was paid for more than an hour ago and is not delivered. Find out why its view "
        "fails: the payer gets it, free, by asking again.",
    )


def _wallets() -> Finding:
    low = [wallet.address for wallet in SettlementWallet.objects.all() if wallet.is_low]
    if not low:
        return Finding("wallets")
    return Finding("wallets", f"The balance of {', '.join(low)} is low. Send it coin for gas.")
