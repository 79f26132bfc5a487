"""What is sold, for what money, and who buys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from random import Random
from typing import Final

from x402_django.constants import FLOW_AUTHORIZATION, FLOW_DEFERRED, FLOW_UPFRONT, SCHEME_EXACT
from x402_django.models import PaymentMethod, PriceRule
from x402_django.protocol.assets import KnownAsset, default_asset, to_checksum_address
from x402_django.protocol.networks import display_name
from x402_django.protocol.types import Offer

#: A public test address; nobody is paid.
PAY_TO: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SHOP: Final = "https://shop.example"
#: Seconds for which an authorization is signed.
LIFETIME: Final = 300
#: Payments per payer, on average, and the most payers there are.
_LOYALTY: Final = 25
_MOST_PAYERS: Final = 50_000
#: Lengths that something priced by its length has.
_LENGTHS: Final = 40

#: Network, and its share of the payments in dollars.
_NETWORKS: Final = {
    "eip155:8453": 50,
    "eip155:84532": 20,
    "eip155:137": 15,
    "eip155:42161": 10,
    "eip155:43114": 5,
}
_EURO: Final = KnownAsset(
    "eip155:8453", "0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42", "EURC", "2", 6, "EURC"
)


@dataclass(frozen=True, slots=True)
class Ware:
    """A kind of page. ``price`` is dollars, or euro tokens where ``in_euro``."""

    title: str
    path: str
    pages: int
    price: Decimal
    share: int
    flow: str = FLOW_AUTHORIZATION
    http_method: str = "GET"
    by_length: bool = False
    has_rule: bool = True
    in_euro: bool = False


WARES: Final = (
    Ware("Ticker", "/ticker/{}/", 300, Decimal("0.001"), 30, FLOW_DEFERRED),
    Ware("Weather", "/weather/{}/", 200, Decimal("0.01"), 22, has_rule=False),
    Ware("Search", "/search/", 1, Decimal("0.001"), 14, by_length=True, has_rule=False),
    Ware("Articles", "/articles/{}/", 2000, Decimal("0.05"), 10),
    Ware("Geocoding", "/geo/{}/", 500, Decimal("0.002"), 9, FLOW_DEFERRED),
    Ware("Translation", "/translate/", 1, Decimal("0.1"), 5, FLOW_UPFRONT, "POST"),
    Ware("Photos", "/photos/{}/", 900, Decimal("0.25"), 4),
    Ware("Speech", "/speech/", 1, Decimal("0.2"), 2, FLOW_UPFRONT, "POST"),
    Ware("Tide tables", "/tides/{}/", 60, Decimal("0.02"), 2, in_euro=True),
    Ware("Reports", "/reports/{}/", 120, Decimal("2.5"), 1, FLOW_UPFRONT, "POST"),
    Ware("Data sets", "/data/{}/", 25, Decimal(25), 1),
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is paid and how: an offer, in the form in which the ledger keeps it."""

    method_id: int
    network: str
    asset: str
    symbol: str
    decimals: int
    amount: int
    price_usd: str | None
    requirements: str


@dataclass(frozen=True, slots=True)
class Page:
    """Where a ware is found, and its request's fingerprint."""

    url: str
    fingerprint: str


class Market:
    """Methods and rules, as rows, and who buys what under them.

    ``regulars`` are payers that buy more than all others. Everything is inactive: no site offers
    what was made up here.
    """

    def __init__(self, rng: Random, rows: int, regulars: Sequence[str] = ()) -> None:
        self._rng = rng
        self._dollars = [
            _method(asset) for name in _NETWORKS if (asset := default_asset(name)) is not None
        ]
        self._euro = _method(_EURO)
        self._dollar_shares = list(accumulate(_NETWORKS.values()))
        #: Key and name of the rule that prices a ware, by its title.
        self.rules = {ware.title: _rule(ware) for ware in WARES}
        self._pages = {ware.title: _pages(ware) for ware in WARES}
        self._shares = {
            flow: list(accumulate(w.share if flow in (None, w.flow) else 0 for w in WARES))
            for flow in (None, FLOW_DEFERRED)
        }
        self._terms: dict[tuple[int | None, Decimal], Terms] = {}
        self._payers = [*regulars, *(None for _ in range(_payers(rows)))]
        self._seeds = rng.randbytes(16)
        self._ranks = list(accumulate(1 / (rank + 2) for rank in range(len(self._payers))))

    def payer(self) -> str:
        """Somebody; the n-th buys about a n-th as often as the first (Zipf's law)."""
        (rank,) = self._rng.choices(range(len(self._payers)), cum_weights=self._ranks)
        known = self._payers[rank]
        if known is None:
            digest = hashlib.sha256(self._seeds + rank.to_bytes(4)).hexdigest()
            known = self._payers[rank] = to_checksum_address(f"0x{digest[:40]}")
        return known

    def ware(self, flow: str | None = None) -> Ware:
        """Something that somebody buys, under ``flow`` if one is named."""
        return self._rng.choices(WARES, cum_weights=self._shares[flow])[0]

    def page(self, ware: Ware) -> Page:
        """One of its pages; the first ones sell best."""
        pages = self._pages[ware.title]
        return pages[int(len(pages) * self._rng.random() ** 3)]

    def method(self, ware: Ware) -> PaymentMethod:
        """How a buyer pays for ``ware``."""
        if ware.in_euro:
            return self._euro
        return self._rng.choices(self._dollars, cum_weights=self._dollar_shares)[0]

    def terms(self, ware: Ware, method: PaymentMethod) -> Terms:
        """What one page costs."""
        price = ware.price
        if ware.by_length:
            price *= int(_LENGTHS * self._rng.random() ** 2) + 1
        key = (method.pk, price)
        if key not in self._terms:
            self._terms[key] = _terms(method, price, in_euro=ware.in_euro)
        return self._terms[key]


def _payers(rows: int) -> int:
    return max(10, min(rows // _LOYALTY, _MOST_PAYERS))


def _pages(ware: Ware) -> list[Page]:
    found = []
    for number in range(1, ware.pages + 1):
        url = SHOP + ware.path.format(number)
        found.append(Page(url, hashlib.sha256(f"{ware.http_method} {url}".encode()).hexdigest()))
    return found


def _method(asset: KnownAsset) -> PaymentMethod:
    method, _ = PaymentMethod.objects.get_or_create(
        scheme=SCHEME_EXACT,
        network=asset.network,
        asset=asset.address,
        pay_to=PAY_TO,
        defaults={
            "name": f"{asset.symbol} on {display_name(asset.network)} (sample)",
            "asset_symbol": asset.symbol,
            "asset_name": asset.name,
            "asset_version": asset.version,
            "asset_decimals": asset.decimals,
            "active": False,
        },
    )
    return method


def _rule(ware: Ware) -> tuple[int | None, str]:
    if not ware.has_rule:
        return None, ""
    price = {"token_amount": int(ware.price * 10**_EURO.decimals)} if ware.in_euro else {}
    rule, _ = PriceRule.objects.get_or_create(
        name=f"{ware.title} (sample)",
        defaults={
            "price_usd": None if ware.in_euro else ware.price,
            "description": ware.title,
            "flow": ware.flow,
            "active": False,
            **price,
        },
    )
    return rule.pk, rule.name


def _terms(method: PaymentMethod, price: Decimal, *, in_euro: bool) -> Terms:
    amount = int(price * 10**method.asset_decimals)
    offer = Offer(
        scheme=method.scheme,
        network=method.network,
        asset=method.asset,
        amount=amount,
        pay_to=method.pay_to,
        max_timeout_seconds=LIFETIME,
        asset_name=method.asset_name,
        asset_version=method.asset_version,
        decimals=method.asset_decimals,
        symbol=method.asset_symbol,
        facilitator=method.facilitator,
    )
    return Terms(
        method_id=method.pk,
        network=method.network,
        asset=method.asset,
        symbol=method.asset_symbol,
        decimals=method.asset_decimals,
        amount=amount,
        price_usd=None if in_euro else str(price),
        requirements=json.dumps(offer.as_v2()),
    )
