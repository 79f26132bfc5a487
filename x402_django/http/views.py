"""The mixin that sells a class-based view."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from x402_django.exceptions import PaymentRequired, PriceNotConfigured
from x402_django.http.middleware import OPTIONS_ATTRIBUTE
from x402_django.http.state import gate_state
from x402_django.pricing.options import PaidViewOptions, Price

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


class PaymentRequiredMixin:
    """Sell a class-based view::

        class Article(PaymentRequiredMixin, DetailView):
            price = "$0.05"                  # or price_rule = "article"

    Override ``get_price`` for a price that depends on the request; the view's ``kwargs`` are set
    up when it is called.
    """

    price: Price | None = None
    price_rule: str | None = None
    price_description: str = ""
    price_mime_type: str = ""
    payment_flow: str | None = None
    session_access: int = 0
    unit_price: str | Decimal | None = None
    metered: bool = False

    def get_price(self, request: HttpRequest) -> Price | None:
        """US dollars for this request; default ``price``."""
        return self.price

    @classmethod
    def as_view(cls: Any, **initkwargs: Any) -> Callable[..., Any]:
        """As ``View.as_view``; the callback carries the price to the gate."""
        view: Callable[..., Any] = super().as_view(**initkwargs)  # type: ignore[misc]

        def price(request: HttpRequest) -> Price:
            instance = cls(**initkwargs)
            match = request.resolver_match
            instance.setup(
                request, *(match.args if match else ()), **(match.kwargs if match else {})
            )
            quoted: Price | None = instance.get_price(request)
            if quoted is None:
                raise PriceNotConfigured()
            return quoted

        options = PaidViewOptions(
            price=price if cls._has_code_price(initkwargs) else None,
            rule=initkwargs.get("price_rule", cls.price_rule),
            description=initkwargs.get("price_description", cls.price_description),
            mime_type=initkwargs.get("price_mime_type", cls.price_mime_type),
            flow=initkwargs.get("payment_flow", cls.payment_flow),
            session_access=initkwargs.get("session_access", cls.session_access),
            unit_price=initkwargs.get("unit_price", cls.unit_price),
            metered=initkwargs.get("metered", cls.metered),
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
                unit_price=self.unit_price,
                metered=self.metered,
            )
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return response
