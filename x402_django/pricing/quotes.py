"""The price of one request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import (
    DEFAULT_MERCHANT,
    FLOW_AUTHORIZATION,
    FLOW_DEFERRED,
    FLOW_UPFRONT,
    PAYMENT_IDENTIFIER,
    SAFE_METHODS,
)
from x402_django.exceptions import ConfigurationError, PriceNotConfigured
from x402_django.models.rule_quotas import QUOTA_PAYER
from x402_django.pricing.cache import current_rules
from x402_django.pricing.conditions import Asker
from x402_django.pricing.discounts import Discounts
from x402_django.pricing.grants import Grant
from x402_django.pricing.options import PaidViewOptions
from x402_django.pricing.payees import Payee, paid_to
from x402_django.pricing.quotas import Quota

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from x402_django.pricing.rules import CompiledRule, RuleSet
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
    #: Who sells it.
    merchant_id: int = DEFAULT_MERCHANT
    #: Seconds for which a browser that has paid may come back.
    session_access: int = 0
    #: Whoever asks is let in free of charge, by the rule of this name.
    is_free: bool = False
    #: What paying it buys beside this request; None: nothing.
    grant: Grant | None = None
    #: Whether credits may be spent on it.
    takes_credits: bool = False
    #: What good customers are let off.
    discounts: Discounts | None = field(default=None, compare=False, repr=False)
    #: Requests that are free of charge before the price is asked for.
    quota: Quota | None = None
    #: Whether a pass is on sale that opens it.
    has_passes: bool = False
    #: What is asked for: the name of its URL, and the key of its price in code.
    url_name: str = ""
    key: str = ""
    #: What one unit costs, where the price is a maximum (the scheme ``upto``).
    unit_price_usd: Decimal | None = None
    #: What the view says to extensions, by key: options, or False for one it does not want.
    extensions: Mapping[str, Mapping[str, Any] | bool] = field(default_factory=dict)
    #: The view's own look at a request that carries a payment, before anything is taken.
    validate: Callable[[HttpRequest], HttpResponseBase | None] | None = field(
        default=None, compare=False
    )
    #: Where to look for what it cost a moment ago (``earlier_quotes``); None for code prices.
    source: RuleSource | None = field(default=None, compare=False, repr=False)

    @property
    def is_held(self) -> bool:
        """Whether a wallet that signs in may be let in by what it has."""
        by_wallet = self.quota is not None and self.quota.per == QUOTA_PAYER
        return self.takes_credits or self.has_passes or by_wallet or self.discounts is not None

    def price_of(self, offer: Offer) -> Decimal | None:
        """What paying by ``offer`` costs in US dollars, its fee included; None if not known."""
        if self.price_usd is None or not offer.fee:
            return self.price_usd
        return Decimal(offer.amount).scaleb(-offer.decimals)


@dataclass(frozen=True, slots=True)
class RuleSource:
    """The rules that a quote was made from, and how they were asked."""

    rules: RuleSet
    rule: CompiledRule
    options: PaidViewOptions | None
    payee: Payee | None
    url_name: str | None
    method: str
    asker: Asker


def quote_request(
    request: HttpRequest,
    options: PaidViewOptions | None,
    url_name: str | None,
    asker: Asker | None = None,
    at: datetime | None = None,
) -> Quote | None:
    """The Quote for ``request``; None when nothing prices it (only if ``options`` is None).

    Order: a rule in force by key, a rule in force by URL name, the price in code. The merchant's
    data wins over the developer's, so that a price can be changed without a deploy.

    ``asker`` is who asks, for the rules' conditions; the request's by default. ``at`` is when.

    Raises PriceNotConfigured when the view is paid and no price can be quoted, or a condition
    cannot be judged as the site is set up; ServiceUnavailable when it cannot be at the moment.
    """
    asker = asker or Asker(request)
    if options is not None:
        _refuse_unknown(options.extensions)
    rules = current_rules()
    method = request.method or "GET"
    rule = rules.find(
        key=options.rule if options else None, url_name=url_name, method=method, at=at, asker=asker
    )
    payee = options.payee_for(request) if options and options.pay_to is not None else None
    if rule is not None:
        return _quote_from_rule(RuleSource(rules, rule, options, payee, url_name, method, asker))
    if options is None:
        return None
    if options.price is None:
        raise PriceNotConfigured(
            f"No price rule with the key {options.rule!r} is in force. Add one in the admin."
        )
    try:
        merchant_id = rules.owner_of(key=options.rule, url_name=url_name)
        price, offers = rules.priced(
            options.price_for(request), metered=options.is_metered, merchant_id=merchant_id
        )
        offers = paid_to(offers, payee)
    except ConfigurationError as error:
        raise PriceNotConfigured(str(error)) from error
    return Quote(
        offers=offers,
        flow=options.flow or default_flow(method, price),
        description=options.description,
        mime_type=options.mime_type,
        price_usd=price,
        rule_id=None,
        rule_name="",
        merchant_id=merchant_id,
        has_passes=rules.has_passes(key=options.rule, url_name=url_name, merchant_id=merchant_id),
        url_name=url_name or "",
        key=options.rule or "",
        session_access=options.session_access,
        unit_price_usd=options.unit_price_usd,
        extensions=options.extensions,
        validate=options.validate,
    )


def _refuse_unknown(extensions: Mapping[str, Any]) -> None:
    """What a view asks of an extension that is not on must not go by unnoticed."""
    for key, said in extensions.items():
        if said is not False and key not in x402.extensions:
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


def _quote_from_rule(source: RuleSource) -> Quote:
    rule, options = source.rule, source.options
    if rule.is_free:
        return _free(rule)
    if rule.error:
        raise PriceNotConfigured(f"The price rule “{rule.name}” cannot be used: {rule.error}")
    code_flow = options.flow if options else None
    key = options.rule if options else None
    code_access = options.session_access if options else 0
    try:
        offers = paid_to(rule.offers, source.payee)
    except ConfigurationError as error:
        raise PriceNotConfigured(str(error)) from error
    return Quote(
        offers=offers,
        flow=_flow_of(rule, code_flow, source.method),
        description=rule.description or (options.description if options else ""),
        mime_type=rule.mime_type or (options.mime_type if options else ""),
        price_usd=rule.price_usd,
        rule_id=rule.pk,
        rule_name=rule.name,
        merchant_id=rule.merchant_id,
        grant=rule.grant,
        takes_credits=rule.takes_credits,
        quota=rule.quota,
        discounts=None if source.payee is not None else rule.discounts,
        has_passes=source.rules.has_passes(
            key=key, url_name=source.url_name, merchant_id=rule.merchant_id
        ),
        url_name=source.url_name or "",
        key=key or "",
        session_access=code_access if rule.session_access is None else rule.session_access,
        unit_price_usd=rule.unit_price_usd or (options.unit_price_usd if options else None),
        source=source,
        validate=options.validate if options else None,
        extensions=_extensions_of_rule(rule, options.extensions if options else {}),
    )


def _free(rule: CompiledRule) -> Quote:
    return Quote(
        offers=(),
        flow=FLOW_AUTHORIZATION,
        description="",
        mime_type="",
        price_usd=None,
        rule_id=rule.pk,
        rule_name=rule.name,
        merchant_id=rule.merchant_id,
        is_free=True,
    )


def _flow_of(rule: CompiledRule, of_code: str | None, method: str) -> str:
    """When the money moves. What is used later is bought with money that has moved."""
    flow = rule.flow or of_code or default_flow(method, rule.price_usd)
    if rule.grant is not None and flow == FLOW_DEFERRED:
        return default_flow(method, rule.price_usd)
    return flow


def earlier_quotes(quote: Quote) -> Iterator[Quote]:
    """What the request cost within the last ``X402["PRICE_GRACE"]`` seconds, and costs no more.

    A client that was asked for that then may still pay it: the prices that the rule had before
    edits, and those of the rule that has just gone out of force by its own dates. No query.
    """
    source = quote.source
    if source is None or not x402.price_grace:
        return
    now = clock.now()
    yield from _before_edits(quote, source, now)
    before = source.rules.find(
        key=source.options.rule if source.options else None,
        url_name=source.url_name,
        method=source.method,
        at=now - timedelta(seconds=x402.price_grace),
        asker=source.asker,
    )
    if before is None or before is source.rule or before.error or before.is_free:
        return
    then = replace(source, rule=before)
    try:
        earlier = _quote_from_rule(then)
    except PriceNotConfigured:
        return
    yield earlier
    yield from _before_edits(earlier, then, now)


def _before_edits(quote: Quote, source: RuleSource, now: datetime) -> Iterator[Quote]:
    for terms in source.rule.earlier:
        if now < terms.until:
            with suppress(ConfigurationError):  # nobody could be paid then
                offers = paid_to(terms.offers, source.payee)
                unit_price = terms.unit_price_usd or quote.unit_price_usd
                yield replace(
                    quote,
                    offers=offers,
                    price_usd=terms.price_usd,
                    unit_price_usd=unit_price,
                    grant=terms.grant,
                    discounts=None,
                )


def default_flow(method: str, price: Decimal | None) -> str:
    """``authorization`` for safe methods, ``upfront`` for those that may have effects.

    Also ``upfront`` for a ``price`` in US dollars above ``X402["UPFRONT_ABOVE"]``: work that is
    worth that much is not done for a payment that may fail (threat 8).
    """
    limit = x402.upfront_above
    is_dear = limit is not None and price is not None and price > limit
    return FLOW_AUTHORIZATION if method in SAFE_METHODS and not is_dear else FLOW_UPFRONT
