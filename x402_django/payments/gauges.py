"""What the ledger says now, in numbers for Prometheus: the same from whichever process is asked.

No network is asked. Each number is one that an index answers, however long the ledger is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.db.models import Count, Max, Min

from x402_django import clock
from x402_django.models import ChainScan, Payment, ScannedBlock
from x402_django.payments.periodic import conditions
from x402_django.payments.wallet_metrics import METRICS as WALLET_METRICS
from x402_django.payments.wallet_metrics import wallet_samples

State = Payment.State

#: Name and meaning of each gauge. The wallets' are in ``wallet_metrics``.
METRICS: Final = {
    "x402_open_payments": "Payments that are on their way, by state.",
    "x402_unknown_outcomes": "Payments of which nobody knows whether they settled.",
    "x402_oldest_unknown_seconds": "For how long the oldest of those has been unknown; 0 if none.",
    "x402_undelivered_payments": "Paid, and not delivered.",
    "x402_unsettled_payments": "Delivered under the flow deferred, and not settled.",
    "x402_task_age_seconds": "Seconds since a periodic task came to its end.",
    "x402_task_overdue": "1 if it has not done so for too long, or never, else 0.",
    "x402_scan_age_seconds": "Seconds since a network was last read to its end.",
    "x402_scan_behind_blocks": "Blocks that were not read, of those that the last run saw.",
}
_OPEN: Final = (State.CLAIMED, State.VERIFIED, State.SETTLING, State.SETTLED)

#: A value and its labels.
Sample = tuple[Mapping[str, str], float]


def ledger_samples() -> dict[str, list[Sample]]:
    """Every gauge by its name, the wallets' included; without one that is not known."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    for name, labels, value in (*_payments(), *_tasks(), *_scans()):
        samples[f"x402_{name}"].append((labels, value))
    for wallet in wallet_samples():
        labels = {"network": wallet.network, "wallet": wallet.wallet}
        samples[wallet.name].append((labels, wallet.value))
    return samples


class LedgerCollector:
    """``ledger_samples`` as a collector of ``prometheus_client``."""

    def collect(self) -> Iterator[Any]:
        """The gauges, as they are now. Raises django.db.Error without a database."""
        from prometheus_client.core import GaugeMetricFamily

        samples = ledger_samples()
        for name, meaning in {**METRICS, **WALLET_METRICS}.items():
            if samples[name]:
                family = GaugeMetricFamily(name, meaning, labels=list(samples[name][0][0]))
                for labels, value in samples[name]:
                    family.add_metric(list(labels.values()), value)
                yield family


def _payments() -> Iterator[tuple[str, Mapping[str, str], float]]:
    counts = dict.fromkeys(_OPEN, 0)
    rows = Payment.objects.sales().filter(state__in=_OPEN).order_by().values_list("state")
    counts.update(dict(rows.annotate(Count("pk"))))
    for state, count in counts.items():
        yield "open_payments", {"state": str(state)}, count
    unknown = Payment.objects.filter(state=State.SETTLING, outcome_unknown_at__isnull=False)
    found = unknown.order_by().aggregate(count=Count("pk"), oldest=Min("outcome_unknown_at"))
    yield "unknown_outcomes", {}, found["count"]
    oldest = found["oldest"]
    yield "oldest_unknown_seconds", {}, (clock.now() - oldest).total_seconds() if oldest else 0
    yield "undelivered_payments", {}, Payment.objects.debts().order_by().count()
    yield "unsettled_payments", {}, Payment.objects.unsettled().order_by().count()


def _tasks() -> Iterator[tuple[str, Mapping[str, str], float]]:
    for condition in conditions():
        labels = {"task": condition.name}
        yield "task_overdue", labels, int(condition.is_overdue)
        if condition.age is not None:
            yield "task_age_seconds", labels, condition.age.total_seconds()


def _scans() -> Iterator[tuple[str, Mapping[str, str], float]]:
    newest = dict(ScannedBlock.objects.order_by().values_list("network").annotate(Max("number")))
    for scan in ChainScan.objects.order_by("network"):
        labels = {"network": scan.network}
        if scan.finished_at is not None:
            yield "scan_age_seconds", labels, (clock.now() - scan.finished_at).total_seconds()
        if scan.head is not None and scan.network in newest:
            yield "scan_behind_blocks", labels, max(scan.head - newest[scan.network], 0)
