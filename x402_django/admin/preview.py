"""The 402 that a price rule would produce, through the code that produces the real one."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from x402_django.admin.display import network_label
from x402_django.admin.routes import example_path, named_routes
from x402_django.conf import x402
from x402_django.exceptions import FacilitatorUnavailable
from x402_django.facilitators.settlers import name_settlers
from x402_django.http.middleware import OPTIONS_ATTRIBUTE
from x402_django.models import PaymentMethod, PriceRule
from x402_django.pricing.methods import OfferTemplate, method_template
from x402_django.pricing.money import format_amount
from x402_django.pricing.rules import compile_rule, load_templates
from x402_django.protocol.challenge import Challenge

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.protocol.types import Offer


@dataclass(frozen=True, slots=True)
class Preview:
    """What a buyer would be told; ``problems`` instead, where the rule cannot be priced."""

    problems: tuple[str, ...] = ()
    resource_url: str = ""
    ways_to_pay: tuple[str, ...] = ()
    not_offered: tuple[str, ...] = ()
    payee_note: str = ""
    flow: str = ""
    v2: str = ""
    v1: str = ""
    v1_has_offers: bool = False


def preview_rule(
    rule: PriceRule, methods: Sequence[PaymentMethod], request: HttpRequest
) -> Preview:
    """The challenge for ``rule``, saved or not.

    Args:
        rule: the row; nothing is written.
        methods: the payment methods chosen for it; empty means every active one.
        request: says under which host the site is, where ``BASE_URL`` does not.
    """
    active = [method for method in methods if method.active]
    default = () if methods else load_templates(rule.merchant_id)  # type: ignore[arg-type]
    compiled = compile_rule(rule, active, default)
    if compiled.error:
        return Preview(problems=(compiled.error,))
    if compiled.is_free:
        return Preview(problems=(_("Nobody is asked: whom this rule is for is let in, free."),))
    try:
        offers = name_settlers(compiled.offers)
    except FacilitatorUnavailable:
        return Preview(problems=(_("No facilitator settles such payments at the moment."),))
    challenge = Challenge(
        resource_url=_example_url(rule, request),
        description=compiled.description,
        mime_type=compiled.mime_type,
        offers=offers,
    )
    v1_body = challenge.v1_body()
    return Preview(
        resource_url=challenge.resource_url,
        ways_to_pay=tuple(_in_words(offer) for offer in offers),
        not_offered=_not_offered(compiled.offers, [*map(method_template, active), *default]),
        payee_note=_payee_note(rule),
        flow=_flow_in_words(rule),
        v2=_pretty(json.loads(base64.b64decode(challenge.header_value()))),
        v1=_pretty(v1_body),
        v1_has_offers=bool(v1_body["accepts"]),
    )


def _in_words(offer: Offer) -> str:
    words = _("%(amount)s on %(network)s to %(address)s")
    if offer.fee:
        words = _("%(amount)s on %(network)s to %(address)s (with a fee of %(fee)s)")
    return words % {
        "amount": format_amount(offer.amount, offer.decimals, offer.symbol),
        "network": network_label(offer.network),
        "address": offer.pay_to,
        "fee": format_amount(offer.fee, offer.decimals, offer.symbol),
    }


def _not_offered(offers: Sequence[Offer], templates: Sequence[OfferTemplate]) -> tuple[str, ...]:
    """The ways of being paid that this amount is too small or too large for."""
    offered = {offer.method_id for offer in offers}
    return tuple(
        _("%(symbol)s on %(network)s: the amount is below its minimum or above its maximum.")
        % {"symbol": template.symbol, "network": network_label(template.network)}
        for template in templates
        if template.method_id not in offered and template.is_bounded
    )


def _payee_note(rule: PriceRule) -> str:
    """Said where the code of one of the rule's pages names who is paid."""
    named = set(rule.url_names or ())
    for route in named_routes():
        if route.name in named and any(
            getattr(getattr(view, OPTIONS_ATTRIBUTE, None), "pay_to", None) for view in route.views
        ):
            return _("The code of “%(page)s” says who is paid.") % {"page": route.name}
    return ""


def _flow_in_words(rule: PriceRule) -> str:
    if rule.flow:
        return str(rule.get_flow_display())
    return _("Settled after the view for GET and HEAD, before it otherwise.")


def _example_url(rule: PriceRule, request: HttpRequest) -> str:
    path = example_path(rule.url_names or ())
    return f"{x402.base_url or request.build_absolute_uri('/').rstrip('/')}{path}"


def _pretty(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
