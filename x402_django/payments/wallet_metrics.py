"""The settlement wallets in numbers, for a monitoring system.

Read from the ledger alone: the periodic task writes down what it sees of the chain, so asking
for the numbers costs no node anything and works while none answers. ``exposition`` is the text
format that Prometheus scrapes; an exporter of your own reads ``wallet_samples``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db.models import Count, F, Min, Q, Sum
from django.db.models.functions import Coalesce

from x402_django import clock
from x402_django.models import ChainTransaction, SettlementWallet

Status = ChainTransaction.Status
#: Name and meaning of each metric; all are gauges.
METRICS: Final = {
    "x402_wallet_balance_wei": "Balance when it was last looked at.",
    "x402_wallet_balance_age_seconds": "Seconds since the balance was looked at.",
    "x402_wallet_low_balance_wei": "LOW_BALANCE of the facilitator.",
    "x402_wallet_balance_is_low": "1 if the balance was below LOW_BALANCE, else 0.",
    "x402_wallet_next_nonce": "Transactions ever stored, as the next nonce.",
    "x402_wallet_open_transactions": "Transactions that wait for their block.",
    "x402_wallet_oldest_open_seconds": "Age of the oldest of those; 0 without any.",
    "x402_wallet_fee_bumps": "How often the fees of those were raised.",
    "x402_wallet_gas_last_hour": "Gas of the last hour: used, or the limit of what is not mined.",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one wallet on one network. Wei may be beyond what a float holds exactly."""

    name: str
    network: str
    wallet: str
    value: int | float


def wallet_samples() -> Iterator[Sample]:
    """Every metric of every wallet that has sent anything; what is not known is left out."""
    now = clock.now()
    outbox = _outbox(now - timedelta(hours=1))
    for wallet in SettlementWallet.objects.order_by("network", "address"):
        sent = outbox[wallet.network, wallet.address]
        oldest = sent.get("oldest")
        values: dict[str, Any] = {
            "balance_wei": wallet.balance,
            "balance_age_seconds": wallet.balance_at and (now - wallet.balance_at).total_seconds(),
            "low_balance_wei": wallet.low_balance,
            "balance_is_low": int(wallet.is_low),
            "next_nonce": wallet.next_nonce,
            "open_transactions": sent.get("open", 0),
            "oldest_open_seconds": (now - oldest).total_seconds() if oldest else 0,
            "fee_bumps": sent.get("bumps") or 0,
            "gas_last_hour": sent.get("gas") or 0,
        }
        for name, value in values.items():
            if value is not None:
                yield Sample(f"x402_wallet_{name}", wallet.network, wallet.address, value)


def exposition(samples: Iterable[Sample]) -> str:
    """``samples`` in Prometheus' text format, version 0.0.4."""
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_name[sample.name].append(sample)
    lines = []
    for name, meaning in METRICS.items():
        if by_name[name]:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        lines += [
            f'{name}{{network="{one.network}",wallet="{one.wallet}"}} {one.value}'
            for one in by_name[name]
        ]
    return "".join(f"{line}\n" for line in lines)


def _outbox(since: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """What waits and what the last hour has used, by network and wallet."""
    is_open = Q(status__in=(Status.SIGNED, Status.SENT))
    rows = (
        ChainTransaction.objects.filter(is_open | Q(created_at__gt=since))
        .order_by()
        .values("network", "wallet")
        .annotate(
            open=Count("pk", filter=is_open),
            oldest=Min("created_at", filter=is_open),
            bumps=Sum("bumps", filter=is_open),
            gas=Sum(
                Coalesce(F("gas_used"), F("gas_limit")),
                filter=Q(created_at__gt=since) & ~Q(status=Status.DROPPED),
            ),
        )
    )
    found: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    found.update({(row["network"], row["wallet"]): dict(row) for row in rows})
    return found
