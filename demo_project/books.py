"""What the agent says, what the ledger says and what the chain says: one table, one comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from demo_project.agent import PAID, Errand, Purchase

COLUMNS = {"what": 33, "price": 17, "payer": 11, "transaction": 11, "receipt": 12, "time": 6}
NOTHING = "—"


@dataclass(frozen=True, slots=True)
class ReceiptFacts:
    """What the table and the comparison need of a receipt; ``amount`` in atomic units."""

    reference: str
    transaction: str
    amount: int
    price: str


@dataclass(frozen=True, slots=True)
class Movement:
    """What an address held before and after, in atomic units."""

    before: int
    after: int

    @property
    def change(self) -> int:
        """Positive if it holds more now."""
        return self.after - self.before


def heading() -> str:
    """The table's first two lines."""
    return f"{_line(COLUMNS)}\n{_line('─' * width for width in COLUMNS.values())}"


def row(purchase: Purchase, receipt: ReceiptFacts | None) -> str:
    """One purchase. Addresses and hashes are shortened; the admin has them whole."""
    time = f"{purchase.seconds:.2f} s"
    if receipt is None:
        return _line((purchase.what, _unpaid(purchase), NOTHING, NOTHING, NOTHING, time))
    return _line(
        (
            purchase.what,
            receipt.price,
            shorten(purchase.payer),
            shorten(purchase.transaction),
            receipt.reference[:12],
            time,
        )
    )


def shorten(text: str) -> str:
    """``0x1234…cdef``"""
    return text if len(text) <= 13 else f"{text[:6]}…{text[-4:]}"


def _unpaid(purchase: Purchase) -> str:
    if purchase.outcome == PAID:
        return "no receipt"
    if not purchase.status:
        return "no answer"
    return purchase.outcome + ("" if purchase.is_good else f" ({purchase.status})")


def _line(cells: Iterable[str]) -> str:
    widths = COLUMNS.values()
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def complaints(
    errands: Iterable[Errand],
    purchases: Sequence[Purchase],
    receipts: Sequence[ReceiptFacts],
    payee: Movement,
    payer: Movement,
) -> list[str]:
    """Everything that is not as it must be; empty if the books are in order, to the last unit.

    The receipts, what the agent was told, what the payee received and what the payer spent must
    be one and the same.
    """
    done = {purchase.what: purchase for purchase in purchases}
    found = [wrong for errand in errands if (wrong := _outcome(errand, done.get(errand.what)))]
    told = [(one.transaction, one.amount) for one in purchases if one.outcome == PAID]
    booked = [(one.transaction, one.amount) for one in receipts]
    if sorted(told) != sorted(booked):
        found.append(
            f"The agent was told of {len(told)} payments of {_sum(told)} units in all, the ledger "
            f"has {len(booked)} receipts of {_sum(booked)}."
        )
    if payee.change != _sum(booked):
        found.append(f"The payee received {payee.change} units, the receipts say {_sum(booked)}.")
    if payer.change != -_sum(booked):
        found.append(f"The agent spent {-payer.change} units, the receipts say {_sum(booked)}.")
    return found


def _outcome(errand: Errand, purchase: Purchase | None) -> str:
    """What is wrong with a purchase in itself; empty if nothing is."""
    if purchase is None:
        return f"{errand.what} was never asked for."
    if purchase.error:
        return f"{errand.what}: {purchase.error}."
    as_wanted = purchase.outcome == errand.outcome
    if as_wanted and (purchase.is_good or errand.outcome != PAID):
        return ""
    return (
        f"{errand.what} should have been {errand.outcome}; it was {purchase.outcome}, and "
        f"answered {purchase.status}."
    )


def _sum(payments: Iterable[tuple[str, int]]) -> int:
    return sum(amount for _, amount in payments)
