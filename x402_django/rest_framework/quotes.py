"""The price of a DRF view, from its attributes.

``price``, ``price_rule`` (the key of a PriceRule), ``get_price(request)``, ``minimum_price``,
``maximum_price``, ``get_pay_to(request)``, ``price_description``, ``price_mime_type`` and
``payment_extensions`` mean what they mean on ``PaymentRequiredMixin``, and so do ``payment_flow``
and ``session_access``. All are optional: a rule on the view's URL name is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from x402_django.conf import x402
from x402_django.exceptions import PriceNotConfigured
from x402_django.extensions.bazaar import KEY as BAZAAR
from x402_django.http.quoting import quote_for
from x402_django.pricing import PaidViewOptions, Quote
from x402_django.rest_framework.hypotheses import assuming, django_request
from x402_django.rest_framework.json_schema import bazaar_options

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from x402_django.pricing.options import Price
    from x402_django.pricing.payees import Payee

_ATTRIBUTE = "_x402_view_quote"


class _Known(NamedTuple):
    view: type[APIView]
    kwargs: Any
    quote: Quote


def known_quote(request: Request, view: APIView) -> Quote | None:
    """The quote that ``view`` has made for this HTTP request already, if it has.

    It outlives the first pass of the view, so that what was asked for is what must be paid: a
    rule edited between the two passes changes nothing for this request.
    """
    known: _Known | None = vars(django_request(request)).get(_ATTRIBUTE)
    if known is None or known.view is not type(view) or known.kwargs != _kwargs(view):
        return None
    return known.quote


def quote_view(request: Request, view: APIView) -> Quote:
    """What ``view`` costs for ``request``: a rule by key, a rule by URL name, then the code.

    ``get_price`` may call ``self.get_object()``: permissions are then checked as if it was paid,
    so that a missing object is 404 and a forbidden one 403 before anybody is asked for money.

    Raises PriceNotConfigured when nothing prices the view, and what ``get_price`` raises.
    """
    quote = known_quote(request, view)
    if quote is None:
        http = django_request(request)
        match = http.resolver_match
        options = _options(request, view)
        quote = quote_for(http, options, match.view_name if match else None)
        if quote is None:
            raise PriceNotConfigured()
        setattr(http, _ATTRIBUTE, _Known(type(view), _kwargs(view), quote))
    return quote


def _options(request: Request, view: APIView) -> PaidViewOptions:
    def code_price(_: HttpRequest) -> Price:
        get_price = getattr(view, "get_price", None)
        with assuming(request, paid=True):
            price: Price | None = get_price(request) if get_price else getattr(view, "price", None)
        if price is None:
            raise PriceNotConfigured()
        return price

    def code_payee(_: HttpRequest) -> Payee | None:
        with assuming(request, paid=True):
            payee: Payee | None = view.get_pay_to(request)  # type: ignore[attr-defined]
        return payee

    return PaidViewOptions(
        price=code_price,
        rule=getattr(view, "price_rule", None),
        description=getattr(view, "price_description", ""),
        mime_type=getattr(view, "price_mime_type", ""),
        flow=getattr(view, "payment_flow", None),
        session_access=getattr(view, "session_access", 0),
        unit_price=getattr(view, "unit_price", None),
        metered=getattr(view, "metered", False),
        pay_to=code_payee if hasattr(view, "get_pay_to") else None,
        minimum=getattr(view, "minimum_price", None),
        maximum=getattr(view, "maximum_price", None),
        extensions=_extensions(request, view),
    )


def _extensions(request: Request, view: APIView) -> Mapping[str, Mapping[str, Any] | bool]:
    """What the view says to extensions; to ``bazaar`` also what its serializer says."""
    said: Mapping[str, Mapping[str, Any] | bool] = getattr(view, "payment_extensions", {})
    own = said.get(BAZAAR, {})
    if BAZAAR not in x402.extensions or not isinstance(own, Mapping):
        return said
    return {**said, BAZAAR: {**bazaar_options(view, request.method or "GET"), **own}}


def _kwargs(view: APIView) -> Any:
    return getattr(view, "kwargs", None)
