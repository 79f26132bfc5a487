"""What the site sells: its routes with what each of them costs, as far as that can be told.

Read from the URL configuration, the views' code and the price rules, and from nothing else: no
view is run and no price that depends on a request is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from x402_django.exceptions import ConfigurationError, ServiceUnavailable
from x402_django.http.asking import asks_itself
from x402_django.http.middleware import OPTIONS_ATTRIBUTE
from x402_django.http.routes import Route, site_routes
from x402_django.http.state import is_never_for_sale
from x402_django.http.views import PaymentRequiredMixin
from x402_django.pricing import PaidViewOptions
from x402_django.pricing.cache import current_rules
from x402_django.pricing.methods import settings_templates
from x402_django.pricing.money import read_usd
from x402_django.pricing.payees import paid_to
from x402_django.pricing.rules import RuleSet

if TYPE_CHECKING:
    from x402_django.protocol.types import Offer

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a paid operation costs. ``offers`` is empty where who or what is paid depends on the
    request; ``minimum`` and ``maximum`` are US dollars, and None where nobody can tell.
    """

    offers: tuple[Offer, ...]
    price_usd: Decimal | None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    unit_price_usd: Decimal | None = None
    is_metered: bool = False
    description: str = ""
    mime_type: str = ""
    extensions: Mapping[str, Mapping[str, Any] | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PaidResource:
    """An operation that is for sale: a method of a route."""

    route: Route
    method: str
    terms: Terms


def paid_resources() -> Iterator[PaidResource]:
    """Everything that is for sale and has a price, in the order of the URL configuration."""
    rules = _rules()
    for route in site_routes():
        if is_never_for_sale(route.view) or not route.template:
            continue
        options = code_options(route.view)
        for method in _methods(route.view, options, route.name, rules):
            terms = terms_of(options, route.name, method, rules)
            if terms is not None:
                yield PaidResource(route, method, terms)


def find_resource(template: str, method: str) -> PaidResource | None:
    """The paid operation at a path such as ``/articles/{slug}/``; names in it do not matter."""
    wanted = _nameless(template)
    for resource in paid_resources():
        if resource.method == method and _nameless(resource.route.template) == wanted:
            return resource
    return None


def code_options(view: Any) -> PaidViewOptions | None:
    """What a view's code says of its price; None if it says nothing."""
    options: PaidViewOptions | None = getattr(view, OPTIONS_ATTRIBUTE, None)
    view_class = getattr(view, "view_class", None)
    if options is not None and isinstance(view_class, type):
        if issubclass(view_class, PaymentRequiredMixin):
            return class_options(view_class, getattr(view, "view_initkwargs", {}))
        return options
    if options is None and asks_itself(view):
        return class_options(getattr(view, "cls", type(view)), getattr(view, "initkwargs", {}))
    return options


def class_options(view_class: type, initkwargs: Mapping[str, Any]) -> PaidViewOptions | None:
    """The same of a class-based view, of Django's or of REST framework's; None without a price."""

    def said(name: str, default: Any = None) -> Any:
        return initkwargs.get(name, getattr(view_class, name, default))

    own: Any = getattr(PaymentRequiredMixin, "get_price", None)
    get_price = getattr(view_class, "get_price", own)
    get_pay_to: Any = getattr(view_class, "get_pay_to", PaymentRequiredMixin.get_pay_to)
    price = said("price") if get_price is own else get_price
    if price is None and not said("price_rule"):
        return None  # only a rule on its URL name can price it
    return PaidViewOptions(
        price=price,
        rule=said("price_rule"),
        description=said("price_description", ""),
        mime_type=said("price_mime_type", ""),
        unit_price=said("unit_price"),
        metered=said("metered", False),
        pay_to=None if get_pay_to is PaymentRequiredMixin.get_pay_to else get_pay_to,
        minimum=said("minimum_price"),
        maximum=said("maximum_price"),
        extensions=said("payment_extensions", {}),
    )


def terms_of(
    options: PaidViewOptions | None, name: str, method: str, rules: RuleSet | None = None
) -> Terms | None:
    """What an operation costs by the rules in force and the code; None if it is not for sale now.

    Args:
        options: what the code says; None if it says nothing.
        name: of the URL; may be empty.
        method: such as ``GET``.
        rules: those in force by default.
    """
    rules = rules or _rules()
    key = options.rule if options else None
    rule = rules.find(key=key, url_name=name or None, method=method)
    try:
        if rule is not None:
            return None if rule.error or rule.is_free else _terms_of_rule(rule, options)
        return _terms_of_code(options, rules, rules.owner_of(key=key, url_name=name or None))
    except ConfigurationError:
        return None  # asking for it is answered 503, and logged


def _terms_of_rule(rule: Any, options: PaidViewOptions | None) -> Terms:
    unit_price = rule.unit_price_usd or (options.unit_price_usd if options else None)
    return Terms(
        offers=_made_out(rule.offers, options),
        price_usd=rule.price_usd,
        unit_price_usd=unit_price,
        is_metered=unit_price is not None or bool(options and options.is_metered),
        description=str(rule.description or (options.description if options else "")),
        mime_type=rule.mime_type or (options.mime_type if options else ""),
        extensions=options.extensions if options else {},
    )


def _terms_of_code(
    options: PaidViewOptions | None, rules: RuleSet, merchant_id: int
) -> Terms | None:
    if options is None or options.price is None:
        return None
    said: dict[str, Any] = {
        "unit_price_usd": options.unit_price_usd,
        "is_metered": options.is_metered,
        "description": str(options.description),
        "mime_type": options.mime_type,
        "extensions": options.extensions,
    }
    if callable(options.price):
        least, most = (
            None if one is None else read_usd(one) for one in (options.minimum, options.maximum)
        )
        return Terms((), None, least, most, **said)
    price, offers = rules.priced(options.price, metered=options.is_metered, merchant_id=merchant_id)
    return Terms(_made_out(offers, options), price, **said)


def _made_out(offers: tuple[Offer, ...], options: PaidViewOptions | None) -> tuple[Offer, ...]:
    if options is None or options.pay_to is None:
        return offers
    return () if callable(options.pay_to) else paid_to(offers, options.pay_to)


def _methods(
    view: Any, options: PaidViewOptions | None, name: str, rules: RuleSet
) -> tuple[str, ...]:
    """The methods that may be for sale. A function says none: GET, or what its rules list."""
    view_class = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if view_class is not None:
        actions = getattr(view, "actions", None)  # of a viewset
        return tuple(
            method
            for method in _METHODS
            if (method.lower() in actions if actions else hasattr(view_class, method.lower()))
        )
    listed = {
        method
        for rule in (
            *rules.by_key.get((options.rule if options else None) or "", ()),
            *rules.by_url_name.get(name, ()),
        )
        for method in rule.methods
    }
    return tuple(m for m in _METHODS if m in listed) or ("GET",)


def _rules() -> RuleSet:
    """The rules in force; none where the database cannot be asked, as when a schema is built."""
    try:
        return current_rules()
    except ServiceUnavailable:
        return RuleSet(0.0, settings_templates(), {}, {})


def _nameless(template: str) -> str:
    return re.sub(r"\{[^{}]*\}", "{}", template)
