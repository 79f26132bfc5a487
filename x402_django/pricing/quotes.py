"""The price of one request."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from x402_django.constants import FLOW_AUTHORIZATION, FLOW_UPFRONT, SAFE_METHODS
from x402_django.exceptions import ConfigurationError, PriceNotConfigured
from x402_django.pricing.cache import current_rules
from x402_django.pricing.options import PaidViewOptions

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.pricing.rules import CompiledRule
    from x402_django.protocol.types import Offer


@dataclass(frozen=True, slots=True)
class Quote:
    """What this request costs, and the ways it may be paid."""

    offers: tuple[Offer, ...]
    flow: str
    description: str
    mime_type: str
    price_usd: Decimal | None
    rule_id: int | None
    rule_name: str
    #: Seconds for which a browser that has paid may come back.
    session_access: int = 0
    #: What one unit costs, where the price is a maximum (the scheme ``upto``).
    unit_price_usd: Decimal | None = None


def quote_request(
    request: HttpRequest, options: PaidViewOptions | None, url_name: str | None
) -> Quote | None:
    """The Quote for ``request``; None when nothing prices it (only if ``options`` is None).

    Order: a rule in force by key, a rule in force by URL name, the price in code. The merchant's
    data wins over the developer's, so that a price can be changed without a deploy.

    Raises PriceNotConfigured when the view is paid and no price can be quoted.
    """
    rules = current_rules()
    method = request.method or "GET"
    rule = rules.find(key=options.rule if options else None, url_name=url_name, method=method)
    if rule is not None:
        return _quote_from_rule(rule, options, method)
    if options is None:
        return None
    if options.price is None:
        raise PriceNotConfigured(
            f"No price rule with the key {options.rule!r} is in force. Add one in the admin."
        )
    source = options.price
    try:
        price, offers = rules.priced(
            source(request) if callable(source) else source, metered=options.is_metered
        )
    except ConfigurationError as error:
        raise PriceNotConfigured(str(error)) from error
    return Quote(
        offers=offers,
        flow=options.flow or default_flow(method),
        description=options.description,
        mime_type=options.mime_type,
        price_usd=price,
        rule_id=None,
        rule_name="",
        session_access=options.session_access,
        unit_price_usd=options.unit_price_usd,
    )


def _quote_from_rule(rule: CompiledRule, options: PaidViewOptions | None, method: str) -> Quote:
    if rule.error:
        raise PriceNotConfigured(f"The price rule “{rule.name}” cannot be used: {rule.error}")
    code_flow = options.flow if options else None
    code_access = options.session_access if options else 0
    return Quote(
        offers=rule.offers,
        flow=rule.flow or code_flow or default_flow(method),
        description=rule.description or (options.description if options else ""),
        mime_type=rule.mime_type or (options.mime_type if options else ""),
        price_usd=rule.price_usd,
        rule_id=rule.pk,
        rule_name=rule.name,
        session_access=code_access if rule.session_access is None else rule.session_access,
        unit_price_usd=rule.unit_price_usd or (options.unit_price_usd if options else None),
    )


def default_flow(method: str) -> str:
    """``authorization`` for safe methods, ``upfront`` for those that may have effects."""
    return FLOW_AUTHORIZATION if method in SAFE_METHODS else FLOW_UPFRONT
