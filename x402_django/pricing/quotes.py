"""The price of one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from x402_django.conf import x402
from x402_django.constants import (
    FLOW_AUTHORIZATION,
    FLOW_UPFRONT,
    PAYMENT_IDENTIFIER,
    SAFE_METHODS,
)
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
    #: What the view says to extensions, by key: options, or False for one it does not want.
    extensions: Mapping[str, Mapping[str, Any] | bool] = field(default_factory=dict)


def quote_request(
    request: HttpRequest, options: PaidViewOptions | None, url_name: str | None
) -> Quote | None:
    """The Quote for ``request``; None when nothing prices it (only if ``options`` is None).

    Order: a rule in force by key, a rule in force by URL name, the price in code. The merchant's
    data wins over the developer's, so that a price can be changed without a deploy.

    Raises PriceNotConfigured when the view is paid and no price can be quoted.
    """
    if options is not None:
        _refuse_unknown(options.extensions)
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
        price, offers = rules.priced(source(request) if callable(source) else source)
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
        extensions=options.extensions,
    )


def _refuse_unknown(extensions: Mapping[str, Any]) -> None:
    """What a view asks of an extension that is not on must not go by unnoticed."""
    for key in extensions:
        if key not in x402.extensions:
            raise PriceNotConfigured(
                f"The view says something to the extension {key!r}, which X402['EXTENSIONS'] does "
                "not turn on."
            )


def _extensions_of_rule(
    rule: CompiledRule, of_code: Mapping[str, Mapping[str, Any] | bool]
) -> Mapping[str, Mapping[str, Any] | bool]:
    """What the rule has to say goes over what the code says."""
    if rule.identifier_required is None:
        return of_code
    if rule.identifier_required and PAYMENT_IDENTIFIER not in x402.extensions:
        raise PriceNotConfigured(
            f"The price rule “{rule.name}” requires a payment identifier, but X402['EXTENSIONS'] "
            "turns them off."
        )
    return {**of_code, PAYMENT_IDENTIFIER: {"REQUIRED": rule.identifier_required}}


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
        extensions=_extensions_of_rule(rule, options.extensions if options else {}),
    )


def default_flow(method: str) -> str:
    """``authorization`` for safe methods, ``upfront`` for those that may have effects."""
    return FLOW_AUTHORIZATION if method in SAFE_METHODS else FLOW_UPFRONT
