"""The mixin that sells a class-based view."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from x402_django.exceptions import PaymentRequired, PriceNotConfigured
from x402_django.http.middleware import OPTIONS_ATTRIBUTE
from x402_django.http.state import gate_state
from x402_django.pricing.options import PaidViewOptions, Price
from x402_django.pricing.payees import Payee

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


class PaymentRequiredMixin:
    """Sell a class-based view::

        class Article(PaymentRequiredMixin, DetailView):
            price = "$0.05"                  # or price_rule = "article"

    Override ``get_price`` for a price that depends on the request, and ``get_pay_to`` for who is
    paid; the view's ``kwargs`` are set up when they are called. ``minimum_price`` and
    ``maximum_price`` (US dollars) bound what ``get_price`` says.
    """

    price: Price | None = None
    price_rule: str | None = None
    price_description: str = ""
    price_mime_type: str = ""
    payment_flow: str | None = None
    session_access: int = 0
    unit_price: str | Decimal | None = None
    metered: bool = False
    minimum_price: Price | None = None
    maximum_price: Price | None = None
    payment_extensions: Mapping[str, Mapping[str, Any] | bool] = MappingProxyType({})

    def get_price(self, request: HttpRequest) -> Price | None:
        """US dollars for this request; default ``price``."""
        return self.price

    def validate_request(self, request: HttpRequest) -> HttpResponseBase | None:
        """Look at a request that carries a payment before anything is taken.

        What this raises (``ValidationError``) or returns (a response ≥ 400) is the answer, and
        nobody is charged. None, the default: go on.
        """
        return None

    def get_pay_to(self, request: HttpRequest) -> Payee | None:
        """Who is paid for this request; None, the default: the payment methods' payees."""
        return None

    @classmethod
    def as_view(cls: Any, **initkwargs: Any) -> Callable[..., Any]:
        """As ``View.as_view``; the callback carries the price to the gate."""
        view: Callable[..., Any] = super().as_view(**initkwargs)  # type: ignore[misc]

        def instance(request: HttpRequest) -> Any:
            made = cls(**initkwargs)
            match = request.resolver_match
            made.setup(request, *(match.args if match else ()), **(match.kwargs if match else {}))
            return made

        def price(request: HttpRequest) -> Price:
            quoted: Price | None = instance(request).get_price(request)
            if quoted is None:
                raise PriceNotConfigured()
            return quoted

        def fitness(request: HttpRequest) -> HttpResponseBase | None:
            refusal: HttpResponseBase | None = instance(request).validate_request(request)
            return refusal

        def payee(request: HttpRequest) -> Payee | None:
            named: Payee | None = instance(request).get_pay_to(request)
            return named

        options = PaidViewOptions(
            price=price if cls._has_code_price(initkwargs) else None,
            rule=initkwargs.get("price_rule", cls.price_rule),
            description=initkwargs.get("price_description", cls.price_description),
            mime_type=initkwargs.get("price_mime_type", cls.price_mime_type),
            flow=initkwargs.get("payment_flow", cls.payment_flow),
            session_access=initkwargs.get("session_access", cls.session_access),
            validate=fitness
            if cls.validate_request is not PaymentRequiredMixin.validate_request
            else None,
            unit_price=initkwargs.get("unit_price", cls.unit_price),
            metered=initkwargs.get("metered", cls.metered),
            pay_to=payee if cls.get_pay_to is not PaymentRequiredMixin.get_pay_to else None,
            minimum=initkwargs.get("minimum_price", cls.minimum_price),
            maximum=initkwargs.get("maximum_price", cls.maximum_price),
            extensions=initkwargs.get("payment_extensions", cls.payment_extensions),
        )
        setattr(view, OPTIONS_ATTRIBUTE, options)
        return view

    @classmethod
    def _has_code_price(cls, initkwargs: dict[str, Any]) -> bool:
        overridden = cls.get_price is not PaymentRequiredMixin.get_price
        return overridden or initkwargs.get("price", cls.price) is not None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        describes = request.method == "OPTIONS" and hasattr(self, "metadata_class")
        if not gate_state(request).is_open and not describes:
            # Reached around the gate (see decorators.ensure_open): ask at the gate.
            raise PaymentRequired(
                self.get_price(request),
                rule=self.price_rule,
                description=self.price_description,
                mime_type=self.price_mime_type,
                flow=self.payment_flow,
                session_access=self.session_access,
                validate=self.validate_request,
                unit_price=self.unit_price,
                metered=self.metered,
                pay_to=self.get_pay_to(request),
                minimum=self.minimum_price,
                maximum=self.maximum_price,
                extensions=self.payment_extensions,
            )
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return response
