"""How a reconciliation is shown: as text for people, or as one JSON document.

Both write each finding when it is found, so that nothing is kept however many there are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from x402_django.pricing.money import format_amount

if TYPE_CHECKING:
    from decimal import Decimal

    from x402_django.payments.booked import Token
    from x402_django.payments.period import Period
    from x402_django.payments.reconciliation import Count, Finding, Report, Tally


class Presentation(Protocol):
    """What the command needs of either."""

    in_order: bool

    def begin(self, period: Period) -> None: ...
    def finding(self, finding: Finding) -> None: ...
    def end(self, report: Report) -> None: ...
    def break_off(self, why: str) -> None: ...
    def finish(self) -> None: ...


class AsText:
    """For people."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.in_order = True

    def begin(self, period: Period) -> None:
        if period.blocks:
            self._line(f"{period.network}, blocks {period.first} to {period.last}")
        else:
            self._line(f"{period.network}, no blocks in this period")

    def finding(self, finding: Finding) -> None:
        self._line(f"  {finding.kind.value.replace('_', ' ').upper()}  {_sentence(finding)}")

    def end(self, report: Report) -> None:
        self.in_order = self.in_order and report.in_order
        self._line(f"  paid to {', '.join(report.payees) or 'nobody'}")
        for tally in report.tallies.values():
            self._tally(tally)

    def break_off(self, why: str) -> None:
        """The command says why, on stderr."""

    def finish(self) -> None:
        verdict = "The books are in order." if self.in_order else "The books are NOT in order."
        self._line(verdict)

    def _tally(self, tally: Tally) -> None:
        token = tally.token
        self._line(f"  {token.symbol} {token.address}")
        self._count("on chain", tally.on_chain, token)
        self._count("  explained", tally.explained, token)
        for name, count in (
            ("  other amount", tally.differing_on_chain),
            ("  on the way", tally.on_the_way),
            ("  unexplained", tally.unexplained),
        ):
            if count.number:
                self._count(name, count, token)
        self._count("receipts", tally.receipts, token, _dollars(tally))
        for name, count in (
            ("  other amount", tally.differing_receipts),
            ("  no transfer", tally.without_transfer),
        ):
            if count.number:
                self._count(name, count, token)

    def _count(self, name: str, count: Count, token: Token, more: str = "") -> None:
        amount = format_amount(count.units, token.decimals, token.symbol)
        self._line(f"    {name:<16}{count.number:>8}  {amount}{more}")

    def _line(self, text: str) -> None:
        self._stream.write(text)


class AsJson:
    """For programs. Amounts are atomic units, as strings: they may be beyond 2**53."""

    _OPENING: Final = '{"networks": ['

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.in_order = True
        self._networks = 0
        self._findings = 0
        self._is_open = False

    def begin(self, period: Period) -> None:
        if not self._networks:
            self._write(self._OPENING)
        facts = {"network": period.network, "first_block": period.first, "last_block": period.last}
        self._write(", " if self._networks else "")
        self._write(json.dumps(facts)[:-1] + ', "findings": [')
        self._networks += 1
        self._findings = 0
        self._is_open = True

    def finding(self, finding: Finding) -> None:
        self._write((", " if self._findings else "") + json.dumps(_facts(finding)))
        self._findings += 1

    def end(self, report: Report) -> None:
        self.in_order = self.in_order and report.in_order
        totals = [_totals(tally) for tally in report.tallies.values()]
        rest = {"payees": report.payees, "tokens": totals, "in_order": report.in_order}
        self._write("], " + json.dumps(rest)[1:])
        self._is_open = False

    def break_off(self, why: str) -> None:
        self._write("]}" if self._is_open else "" if self._networks else self._OPENING)
        self._write(f'], "in_order": null, "error": {json.dumps(why)}}}\n')

    def finish(self) -> None:
        self._write("" if self._networks else self._OPENING)
        self._write(f'], "in_order": {json.dumps(self.in_order)}}}\n')

    def _write(self, text: str) -> None:
        self._stream.write(text, ending="")


def _sentence(finding: Finding) -> str:
    token, transfer, receipt = finding.token, finding.transfer, finding.receipt
    parts = []
    if transfer is not None:
        parts.append(
            f"block {transfer.block_number}, transaction {transfer.transaction}, "
            f"log {transfer.log_index}: "
            f"{format_amount(transfer.value, token.decimals, token.symbol)} "
            f"from {transfer.sender} to {transfer.pay_to}"
        )
    if receipt is not None:
        amount = format_amount(receipt.amount, token.decimals, token.symbol)
        parts.append(
            f"receipt {receipt.reference} of {amount} from {receipt.payer} to {receipt.pay_to}, "
            f"transaction {receipt.transaction}; payment {receipt.payment} is {receipt.state}"
        )
    elif finding.payment is not None:
        parts.append(f"payment {finding.payment.payment} is {finding.payment.state}")
    else:
        parts.append("no payment is known for it")
    return "; ".join(parts)


def _facts(finding: Finding) -> dict[str, Any]:
    transfer, receipt, payment = finding.transfer, finding.receipt, finding.payment
    facts: dict[str, Any] = {"kind": finding.kind.value, "asset": finding.token.address}
    if transfer is not None:
        facts["transfer"] = {
            "block": transfer.block_number,
            "transaction": transfer.transaction,
            "log": transfer.log_index,
            "from": transfer.sender,
            "to": transfer.pay_to,
            "units": str(transfer.value),
        }
    if receipt is not None:
        facts["receipt"] = {
            "reference": receipt.reference,
            "transaction": receipt.transaction,
            "from": receipt.payer,
            "to": receipt.pay_to,
            "units": str(receipt.amount),
        }
        facts["payment"] = {"id": receipt.payment, "state": receipt.state}
    elif payment is not None:
        facts["payment"] = {"id": payment.payment, "state": payment.state}
    return facts


def _totals(tally: Tally) -> dict[str, Any]:
    names = (
        "on_chain", "explained", "differing_on_chain", "on_the_way", "unexplained",
        "receipts", "differing_receipts", "without_transfer",
    )  # fmt: skip
    counts = {name: getattr(tally, name) for name in names}
    return {
        "asset": tally.token.address,
        "symbol": tally.token.symbol,
        "decimals": tally.token.decimals,
        **{n: {"count": c.number, "units": str(c.units)} for n, c in counts.items()},
        "usd": _plain(tally.usd),
        "without_usd": tally.without_usd,
    }


def _dollars(tally: Tally) -> str:
    if not tally.receipts.number:
        return ""
    unpriced = f", {tally.without_usd} without a price in dollars" if tally.without_usd else ""
    return f"  ${_plain(tally.usd)}{unpriced}"


def _plain(usd: Decimal) -> str:
    """At least two decimals, and no more than there are."""
    whole, _, fraction = f"{usd:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
