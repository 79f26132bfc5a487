"""Concurrent buyers on a real node: payments settled per second from one wallet, gas for each.

As ``benchmarks.chain``, but each buyer pays again as soon as it is served; ours lets those who
wait share a transaction. With blocks at once, and with a block a second, as chains have them.
"""

from __future__ import annotations

import statistics
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from benchmarks.anvil import NoAnvil, running_anvil
from benchmarks.chain import CHAIN_ID, Seller, buyers, environs, new_seller, official, settings
from benchmarks.databases import POSTGRES, SQLITE, configured, using
from benchmarks.payments import offer_of, signed_headers
from benchmarks.report import Report
from benchmarks.site import Site
from benchmarks.wsgi import Application, call, environ_for
from x402_django.testing.payer import Payer

BUYERS = (1, 16, 64)
#: Payments of the flow ``deferred`` in one batch, and how many payers make them.
BATCH = 80
PAYERS_OF_BATCH = (80, 20, 4)
DEFERRED_PATH = "/deferred/weather"
#: Seconds between blocks; 0 mines each transaction at once.
BLOCKS = (0, 1)
#: What is wanted at the most buyers: times the official rate, and share of its gas.
WANTED_RATE = 10.0
WANTED_GAS = 0.6

HEADER = ("buyers", "payments/s", "ms p50", "ms p95", "gas each", "transactions", "failed")


@dataclass(slots=True)
class Run:
    """What one side did in one setting. Gas is of all transactions, for each payment settled."""

    rate: float
    gas: float
    transactions: int
    failures: int
    times: list[float] = field(default_factory=list)


def run(site: Site, report: Report, *, quick: bool) -> None:
    """Skipped, with the reason, where there is no Anvil."""
    report.heading("Concurrent buyers on Anvil, one wallet")
    try:
        with running_anvil(CHAIN_ID) as url:
            _measure(site, report, url, quick=quick)
    except NoAnvil as why:
        report.not_measured("payments of concurrent buyers", str(why))


def _measure(site: Site, report: Report, url: str, *, quick: bool) -> None:
    from django.test import override_settings
    from web3 import HTTPProvider, Web3

    from x402_django.chain.devchain.accounts import dev_accounts
    from x402_django.testing.chain import install_contracts

    w3 = Web3(HTTPProvider(url))
    install_contracts(w3)
    payers = buyers(w3, max(*BUYERS, *PAYERS_OF_BATCH))
    our_key, their_key = (dev_accounts()[index].private_key for index in (1, 2))
    database = POSTGRES if POSTGRES in configured() else SQLITE
    with override_settings(X402=settings(url, our_key)), using(database):
        for block_time in BLOCKS:
            if block_time:  # while a block comes at once
                _deferred_batches(site, report, w3, payers)
            _mine_every(w3, block_time)
            blocks = f"a block every {block_time} s" if block_time else "a block at once"
            report.line(f"{blocks}; ledger on {database}")
            if block_time:
                most = max(BUYERS) // block_time
                report.line(f"{max(BUYERS)} buyers, each waiting for a block, pay {most}/s at most")
            rows = []
            for count in BUYERS:
                each = _payments_each(count, block_time, quick=quick)
                ours = _sell(w3, "x402-django", site.gated, payers[:count], each)
                theirs = _sell(w3, "official", official(url, their_key), payers[:count], each)
                rows += [_row(count, "x402-django", ours), _row(count, "official", theirs)]
                rows.append(_ratios(report, count, blocks, ours, theirs))
            report.table(HEADER, rows)


def _deferred_batches(site: Site, report: Report, w3: Any, payers: tuple[Payer, ...]) -> None:
    """Gas of a payment where payers come again before their batch leaves."""
    from django.db.models import Sum

    from x402_django.models import ChainTransaction
    from x402_django.payments.deferred import settle_deferred

    offer = offer_of(call(site.gated, environ_for(DEFERRED_PATH)))
    single = ChainTransaction.objects.filter(payments_count=1, status="mined").latest("pk")
    rows = []
    for count in PAYERS_OF_BATCH:
        for headers in signed_headers(offer, BATCH, payers[:count]):
            call(site.gated, environ_for(DEFERRED_PATH, headers))
        before = ChainTransaction.objects.latest("pk").pk
        settled = settle_deferred().settled
        sent = ChainTransaction.objects.filter(pk__gt=before)
        gas = (sent.aggregate(gas=Sum("gas_used"))["gas"] or 0) / max(settled, 1)
        share = f"{gas / (single.gas_used or 1):.2f}"
        rows.append((str(count), str(settled), str(sent.count()), f"{gas:.0f}", share))
    report.line(f"batches of the flow deferred, {BATCH} payments each")
    report.table(("payers", "settled", "transactions", "gas each", "of one alone"), rows)
    report.line("0.58 is the token's own work for a payer's first payment: docs/facilitators.md")


def _mine_every(w3: Any, seconds: int) -> None:
    if seconds:
        w3.provider.make_request("evm_setAutomine", [False])
        w3.provider.make_request("evm_setIntervalMining", [seconds])


def _payments_each(count: int, block_time: int, *, quick: bool) -> int:
    if quick:
        return 2
    if block_time:
        return 6
    return 40 if count == 1 else 8


def _sell(w3: Any, name: str, app: Application, payers: tuple[Payer, ...], each: int) -> Run:
    """Each buyer in a thread of its own, paying ``each`` times."""
    side = new_seller(name, app)
    side.pool = ThreadPoolExecutor(len(payers))
    side.at_once(environs(payers, side, len(payers)))  # opens what stays open
    side.transactions.clear()
    side.failures = 0
    orders = [environs((payer,), side, each) for payer in payers]
    barrier = threading.Barrier(len(payers))

    def buy(mine: list[dict[str, Any]]) -> None:
        barrier.wait(30)
        for environ in mine:
            side.sell(environ)

    started = perf_counter()
    list(side.pool.map(buy, orders))
    elapsed = perf_counter() - started
    _close(side, len(payers))
    hashes = set(side.transactions)
    gas = sum(w3.eth.get_transaction_receipt(one)["gasUsed"] for one in hashes)
    settled = len(side.transactions)
    return Run(
        settled / elapsed, gas / max(settled, 1), len(hashes), side.failures, sorted(side.times)
    )


def _close(side: Seller, threads: int) -> None:
    from django.db import connections

    barrier = threading.Barrier(threads)

    def close(_: int) -> None:
        barrier.wait(30)
        connections.close_all()

    list(side.pool.map(close, range(threads)))
    side.pool.shutdown()


def _row(count: int, name: str, one: Run) -> tuple[str, ...]:
    return (
        f"{count}, {name}",
        f"{one.rate:.1f}",
        f"{statistics.median(one.times):.0f}",
        f"{one.times[len(one.times) * 95 // 100]:.0f}",
        f"{one.gas:.0f}",
        str(one.transactions),
        str(one.failures),
    )


def _ratios(report: Report, count: int, blocks: str, ours: Run, theirs: Run) -> tuple[str, ...]:
    rate = ours.rate / theirs.rate if theirs.rate else float("inf")
    gas = ours.gas / theirs.gas if theirs.gas else float("nan")
    if count == max(BUYERS):
        what = f"{count} buyers, {blocks}"
        report.wanted(f"{what}: rate ≥ {WANTED_RATE:.0f} ×", f"{rate:.1f} ×", rate >= WANTED_RATE)
        report.wanted(f"{what}: gas ≤ {WANTED_GAS} ×", f"{gas:.2f} ×", gas <= WANTED_GAS)
    return (f"{count}, ours/official", f"{rate:.2f}", "", "", f"{gas:.2f}", "", "")
