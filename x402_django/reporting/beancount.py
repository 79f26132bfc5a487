"""Double entry, in the text form of Beancount (version 2 and 3).

Every transaction balances within its own commodity: nothing is converted. What a sale was worth in
US dollars is in its metadata. Accounts are opened on the day on which they first appear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from x402_django.reporting.records import Record

_SALES: Final = "Income:X402:Sales"
_REFUNDS: Final = "Income:X402:Refunds"
_GAS: Final = "Expenses:X402:Gas"


def as_beancount(records: Iterator[Record], columns: Sequence[str]) -> Iterator[str]:
    """Directives for receipts, refunds or gas; ``columns`` are not asked: entries have their form.

    What others could choose (descriptions, URLs, symbols) stays inside of quotes and names.
    """
    opened: set[str] = set()
    yield 'option "title" "Sales by x402"\n\n'
    for record in records:
        entry = _gas(record) if record["kind"] == "gas" else _sale(record)
        for account in entry.accounts:
            if account not in opened:
                opened.add(account)
                yield f"{entry.day} open {account}\n"
        yield entry.text()


class _Entry:
    """A transaction of two postings."""

    def __init__(self, record: Record, moment: str, amount: Decimal, commodity: str) -> None:
        self.day = moment[:10]
        self.head = ""
        self.metadata: dict[str, str] = {}
        self.accounts: tuple[str, str] = ("", "")
        self._amount, self._commodity = amount, commodity

    def text(self) -> str:
        lines = [f"{self.day} * {self.head}"]
        lines += [f"  {key}: {value}" for key, value in self.metadata.items()]
        debit, credit = self.accounts
        lines += [
            f"  {debit}  {self._amount:f} {self._commodity}",
            f"  {credit}  {-self._amount:f} {self._commodity}",
        ]
        return "\n".join(lines) + "\n\n"


def _sale(record: Record) -> _Entry:
    commodity = _commodity(record["token"], record["token_contract"])
    entry = _Entry(record, record["issued_at"], record["amount"], commodity)
    entry.head = f"{_quoted(record['payer'])} {_quoted(record['description'])}"
    entry.metadata = {
        "receipt": _quoted(record["reference"]),
        "time": _quoted(record["issued_at"]),
        "merchant": _quoted(record["merchant"]),
        "transaction": _quoted(record["transaction"]),
        "resource": _quoted(record["resource_url"]),
    }
    if record["price_usd"] is not None:
        entry.metadata["usd"] = f"{record['price_usd']:f}"
    # A refund's amount is negative: the same accounts, the other way.
    income = _REFUNDS if record["kind"] == "refund" else _SALES
    entry.accounts = (f"Assets:X402:{_part(record['network'])}:{_part(record['pay_to'])}", income)
    return entry


def _gas(record: Record) -> _Entry:
    commodity = _commodity(record["coin"], record["network"])
    entry = _Entry(record, record["signed_at"], record["fee"], commodity)
    entry.head = f'{_quoted(record["network"])} "Gas"'
    entry.metadata = {
        "time": _quoted(record["signed_at"]),
        "transaction": _quoted(record["transaction"]),
        "payments": str(record["payments"]),
    }
    entry.accounts = (_GAS, f"Assets:X402:{_part(record['network'])}:{_part(record['wallet'])}")
    return entry


def _quoted(text: str) -> str:
    """A string; on one line, whatever was in it."""
    flat = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text)
    return '"' + flat.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _part(name: str) -> str:
    """A component of an account's name: ``eip155:8453`` becomes ``Eip155-8453``."""
    part = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    return part[:1].upper() + part[1:]


def _commodity(symbol: str, contract: str) -> str:
    """A commodity's name: the symbol, or what of it may stand in one."""
    name = re.sub(r"[^A-Z0-9]+", "-", symbol.upper()).strip("-")[:20]
    if re.fullmatch(r"[A-Z][A-Z0-9-]*[A-Z0-9]", name):
        return name
    return f"TOKEN-{re.sub(r'[^A-Z0-9]+', '', contract.upper())[-8:]}"
