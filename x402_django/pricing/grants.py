"""What a price buys beside its own request: a pass, or credits.

A ``Grant`` is compiled from a rule, offered in a quote and kept with the payment
(``Payment.grant``): what was sold is what the buyer has, whatever becomes of the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext, ngettext

from x402_django.constants import CREDIT_DECIMALS, GRANT_CREDITS, GRANT_PASS
from x402_django.pricing.money import format_usd

if TYPE_CHECKING:
    from x402_django.models import PreviousPrice, PriceRule


@dataclass(frozen=True, slots=True)
class Grant:
    """A pass (``kind`` "pass") or credits (``kind`` "credits").

    Args:
        seconds: how long a pass is good from its settlement on; None: for ever.
        uses: how many more requests it is good for; None: any number.
        pages: the names of the URLs that it opens.
        keys: the keys of paid views that it opens (``payment_required(rule=key)``).
        methods: the HTTP methods that it opens them for; empty: every one.
        for_object: it opens only the URL that it was bought on.
        credits: how much is credited, in 10⁻⁸ US dollars.
    """

    kind: str
    seconds: int | None = None
    uses: int | None = None
    pages: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    for_object: bool = False
    credits: int = 0

    @property
    def is_pass(self) -> bool:
        """Whether it is a pass."""
        return self.kind == GRANT_PASS

    def in_words(self) -> str:
        """What is bought, for a person: "a pass for 24 hours", "credits of $10.00"."""
        if not self.is_pass:
            return gettext("credits of %(dollars)s") % {
                "dollars": format_usd(credit_dollars(self.credits))
            }
        hours = None if self.seconds is None else self.seconds // 3600
        for_time = (
            ""
            if hours is None
            else ngettext("for %(count)d hour", "for %(count)d hours", hours) % {"count": hours}
        )
        for_uses = (
            ""
            if self.uses is None
            else ngettext("for %(count)d use", "for %(count)d uses", self.uses)
            % {"count": self.uses}
        )
        return " ".join(part for part in (gettext("a pass"), for_time, for_uses) if part)

    def as_json(self) -> dict[str, Any]:
        """The value of ``Payment.grant``."""
        if not self.is_pass:
            return {"kind": self.kind, "credits": str(self.credits)}
        return {
            "kind": self.kind,
            "seconds": self.seconds,
            "uses": self.uses,
            "pages": list(self.pages),
            "keys": list(self.keys),
            "methods": list(self.methods),
            "for_object": self.for_object,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Grant:
        """The grant that ``as_json`` wrote."""
        if stored["kind"] != GRANT_PASS:
            return cls(GRANT_CREDITS, credits=int(stored["credits"]))
        return cls(
            GRANT_PASS,
            seconds=stored["seconds"],
            uses=stored["uses"],
            pages=tuple(stored["pages"]),
            keys=tuple(stored["keys"]),
            methods=tuple(stored["methods"]),
            for_object=stored["for_object"],
        )

    def expires(self, settled_at: datetime) -> datetime | None:
        """When a pass that was settled then is over; None: never."""
        return None if self.seconds is None else settled_at + timedelta(seconds=self.seconds)

    def opens(self, *, key: str, url_name: str, method: str) -> bool:
        """Whether a pass opens a page, by the key of its price in code or the name of its URL."""
        if not self.is_pass or not (key in self.keys or url_name in self.pages):
            return False
        return not self.methods or ("GET" if method == "HEAD" else method) in self.methods


def compile_grant(rule: PriceRule, terms: PriceRule | PreviousPrice) -> Grant | None:
    """What ``rule`` sells by ``terms``, its own or earlier ones; None: one request and no more."""
    if terms.grants == GRANT_CREDITS:
        dollars = terms.price_usd if terms.credits_usd is None else terms.credits_usd
        return Grant(GRANT_CREDITS, credits=credit_units(dollars or Decimal(0)))
    if terms.grants != GRANT_PASS:
        return None
    return Grant(
        GRANT_PASS,
        seconds=None if terms.pass_hours is None else terms.pass_hours * 3600,
        uses=terms.pass_uses,
        pages=tuple(dict.fromkeys([*(rule.url_names or ()), *(terms.pass_pages or ())])),
        keys=(rule.key,) if rule.key else (),
        methods=tuple(method.strip().upper() for method in rule.methods or ()),
        for_object=terms.pass_for_object,
    )


def credit_units(dollars: Decimal) -> int:
    """US dollars in units of 10⁻⁸; exact for whatever a price can be."""
    return int(Decimal(dollars).scaleb(CREDIT_DECIMALS))


def credit_dollars(units: int) -> Decimal:
    """Units of 10⁻⁸ US dollars in dollars; exact."""
    return Decimal(units).scaleb(-CREDIT_DECIMALS)
