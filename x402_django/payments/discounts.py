"""What the ledger knows of a payer that a discount asks for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from x402_django import clock
from x402_django.models import Receipt
from x402_django.payments.holdings import Holder, is_good, pass_of, purchases_of
from x402_django.pricing.discounts import with_discount

if TYPE_CHECKING:
    from x402_django.pricing import Quote

#: In which purchases count.
WINDOW: Final = timedelta(days=30)


def discounted_for(quote: Quote, payer: str) -> Quote:
    """``quote`` at the price of ``payer``; the quote itself where nothing is taken off.

    No query where the quote's rule gives no discounts.
    """
    discounts = quote.discounts
    if discounts is None:
        return quote
    percent = discounts.percent(
        holds_pass=bool(discounts.holder) and _holds_pass(payer, quote.merchant_id),
        purchases=_purchases(payer, quote.merchant_id, discounts.most_purchases),
    )
    return with_discount(quote, percent)


def _holds_pass(payer: str, merchant_id: int) -> bool:
    bought = purchases_of(Holder(payer), merchant_id)
    return any((held := pass_of(one)) is not None and is_good(held) for one in bought)


def _purchases(payer: str, merchant_id: int, enough: int) -> int:
    """Receipts of the last days, counted as far as it matters."""
    if not enough:
        return 0
    rows = Receipt.objects.filter(
        payer=payer, merchant_id=merchant_id, issued_at__gte=clock.now() - WINDOW
    )
    return len(rows.order_by("-pk").values_list("pk", flat=True)[:enough])
