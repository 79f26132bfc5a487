"""The shop window: what is for sale, at the price that is in force now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.urls import resolve, reverse

from x402_django.exceptions import PriceNotConfigured
from x402_django.pricing import PaidViewOptions, quote_request
from x402_django.pricing.money import format_amount

if TYPE_CHECKING:
    from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to buy. ``how`` says to a developer what sells it."""

    title: str
    how: str
    route: str
    slug: str = ""
    method: str = "GET"

    @property
    def path(self) -> str:
        """Where it is."""
        return reverse(self.route, kwargs={"slug": self.slug} if self.slug else None)


@dataclass(frozen=True, slots=True)
class Shelf:
    """An item with its price tag."""

    item: Item
    price: str
    offers: tuple[str, ...]


ITEMS = (
    Item("A free page", "a view that nothing prices", "free"),
    Item("Today’s weather", '@payment_required("$0.01") on a function', "weather"),
    Item("A quotation", '@payment_required("$0.01") on an async function', "quote"),
    Item("Weather forecast", "HasPaid, a permission of Django REST framework", "forecast"),
    Item("Forecast to order", "the same view; POST is paid before it runs", "forecast", "", "POST"),
    Item("A language model", "metered: request.payment.charge_units(tokens)", "llm"),
    Item("The vault", "paid once; the wallet comes back by signing in", "vault"),
    Item("What is x402?", "a price rule in the admin", "article", "what-is-x402"),
    Item("Why a shop needs a ledger", "the same rule", "article", "why-a-ledger"),
    Item("All articles for a day", "a price rule that sells a pass", "day-pass"),
    Item("Credits for forecasts", "a price rule that sells credits", "credits"),
    Item("A broken page", "raises: the buyer is not charged", "broken"),
)


def shelves(request: HttpRequest) -> list[Shelf]:
    """Every item with the price it has at this moment, as a rule or the code says."""
    return [_shelf(request, item) for item in ITEMS]


def _shelf(request: HttpRequest, item: Item) -> Shelf:
    view = resolve(item.path).func
    try:
        quote = quote_request(request, _options(view), item.route)
    except PriceNotConfigured:
        return Shelf(item, "not for sale at the moment", ())
    if quote is None or quote.is_free:
        return Shelf(item, "free", ())
    offers = tuple(format_amount(one.amount, one.decimals, one.symbol) for one in quote.offers)
    price = f"${quote.price_usd.normalize():f}" if quote.price_usd is not None else offers[0]
    if quote.unit_price_usd is not None:
        price = f"${quote.unit_price_usd.normalize():f} per token, at most {price}"
    return Shelf(item, price, offers)


def _options(view: Callable[..., Any]) -> PaidViewOptions | None:
    """What a view's code says about its price: a decorator's options or a DRF view's ``price``."""
    options: PaidViewOptions | None = getattr(view, "x402_paid", None)
    price = getattr(getattr(view, "cls", None), "price", None)
    return PaidViewOptions(price=price) if options is None and price is not None else options
