"""``manage.py x402_wallets``: the settlement wallets, their gas money and what is stuck."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError
from x402_django.pricing.money import format_amount

if TYPE_CHECKING:
    from x402_django.payments.wallet_report import OpenTransaction, WalletReport

#: Decimals of every EVM network's own coin.
_COIN_DECIMALS: Final = 18


class Command(BaseCommand):
    """Exits with 1 if anything needs attention."""

    help = (
        "Show the settlement wallets: balances, nonces, transactions that are not mined. "
        "Exit status: 0 all is well, 1 something needs attention."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--network", help="one network (CAIP-2) instead of all")
        parser.add_argument(
            "--minimum",
            type=int,
            default=100,
            metavar="N",
            help="fewer settlements left than this need attention (default 100)",
        )
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="one JSON document on stdout")
        form.add_argument(
            "--metrics",
            action="store_true",
            help="the ledger's numbers for Prometheus on stdout; asks no node, always exits with 0",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Report, then exit as the class says."""
        if options["metrics"]:
            from x402_django.payments.wallet_metrics import exposition, wallet_samples

            self.stdout.write(exposition(wallet_samples()), ending="")
            return
        from x402_django.payments.wallet_report import wallet_reports  # loads web3

        if options["network"] and options["network"] not in x402.networks:
            raise CommandError(f"X402['NETWORKS'] has no entry for {options['network']!r}.")
        try:
            reports = wallet_reports(network=options["network"], minimum=options["minimum"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        well = not any(report.attention for report in reports)
        if options["json"]:
            wallets = [_as_json(report) for report in reports]
            self.stdout.write(json.dumps({"wallets": wallets, "attention": not well}))
        else:
            for report in reports:
                self._show(report)
            self.stdout.write(_verdict(reports, well=well))
        if not well:
            sys.exit(1)

    def _show(self, report: WalletReport) -> None:
        self._line(f"{report.address} on {report.network}")
        self._fact("balance", _coins(report.balance))
        left = report.settlements_left
        self._fact("enough for", "unknown" if left is None else f"about {left} settlements")
        self._fact("next nonce", _known(report.next_nonce, "none used yet"))
        self._fact(
            "on chain",
            f"{_known(report.mined_nonce)} mined, {_known(report.pending_nonce)} with pending",
        )
        self._fact("not mined", str(report.open_count))
        for transaction in report.open:
            self._line(f"    {_open(transaction)}")
        for sentence in report.attention:
            self._line(f"  ATTENTION  {sentence}")

    def _fact(self, name: str, value: str) -> None:
        self._line(f"  {name:<12}{value}")

    def _line(self, text: str) -> None:
        self.stdout.write(text)


def _verdict(reports: list[WalletReport], *, well: bool) -> str:
    if not reports:
        return "No settlement wallet: the facilitators are services, which pay the gas."
    return "All is well." if well else "Something needs attention."


def _coins(wei: int | None) -> str:
    return "unknown" if wei is None else f"{format_amount(wei, _COIN_DECIMALS)} ({wei} wei)"


def _known(number: int | None, otherwise: str = "unknown") -> str:
    return otherwise if number is None else str(number)


def _open(transaction: OpenTransaction) -> str:
    words = [f"nonce {transaction.nonce}", transaction.hash, transaction.status]
    words += [f"{transaction.age:.0f} s old", f"sent {transaction.sends} times"]
    words += ["STUCK"] * transaction.is_stuck
    words += [transaction.last_error] * bool(transaction.last_error)
    return ", ".join(words)


def _as_json(report: WalletReport) -> dict[str, Any]:
    # Wei are beyond 2**53, which not every reader of JSON has.
    return {**asdict(report), "balance": None if report.balance is None else str(report.balance)}
