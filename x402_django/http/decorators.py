"""``@payment_required`` for function views, sync and async."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction

from x402_django.exceptions import PaymentRequired
from x402_django.http.middleware import OPTIONS_ATTRIBUTE
from x402_django.http.state import gate_state
from x402_django.pricing.options import PaidViewOptions, Price, PriceSource
from x402_django.pricing.payees import PayeeSource

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

View = TypeVar("View", bound=Callable[..., Any])


def payment_required(
    price: PriceSource | None = None,
    *,
    rule: str | None = None,
    description: str = "",
    mime_type: str = "",
    flow: str | None = None,
    session_access: int = 0,
    validate: Callable[[HttpRequest], HttpResponseBase | None] | None = None,
    unit_price: str | Decimal | None = None,
    metered: bool = False,
    pay_to: PayeeSource | None = None,
    minimum: Price | None = None,
    maximum: Price | None = None,
    extensions: Mapping[str, Mapping[str, Any] | bool] | None = None,
) -> Callable[[View], View]:
    """Sell a view.

    ::

        @payment_required("$0.01", description="Today's weather")
        def weather(request): ...

        @payment_required(rule="report")          # the price lives in the admin
        async def report(request): ...

    Args:
        price: US dollars as ``"$0.01"`` or ``Decimal``, or a callable of the request.
        rule: key of a PriceRule; while one is in force it wins over ``price``.
        description: shown to the payer.
        mime_type: of what is sold.
        flow: ``"authorization"`` (settle after the view) or ``"upfront"`` (before it). Default:
            the first for GET and HEAD, the second otherwise. ``"deferred"`` settles in the
            background once the response has left, for payers who may (docs/deferred.md).
        session_access: seconds for which the browser of a person who paid on the paywall page
            may come back without paying again (docs/paywall.md). A rule in force may say else.
        validate: called with a request that carries a payment, before anything is taken. What it
            raises (``ValidationError``) or returns (a response ≥ 400) is the answer, and nobody is
            charged. For views that are paid before they run.
        metered: the price is a maximum, and the view calls ``request.payment.charge(…)``; asked
            for by the scheme ``upto``, where there is a payment method of it (docs/schemes.md).
        unit_price: US dollars for one unit, for ``request.payment.charge_units(n)``; implies
            ``metered``.
        pay_to: who is paid, instead of the payment methods' payees: an address, addresses by
            CAIP-2 network, or a callable of the request that returns either (docs/prices.md).
        minimum, maximum: US dollars; a ``price`` beyond them becomes them.
        extensions: what the view says to extensions, by key: options over those of the setting,
            or False for one that it does not want (docs/extensions.md).

    Raises ConfigurationError at import when neither price nor rule is given, and at run time
    when the middleware is missing.
    """
    options = PaidViewOptions(
        price=price,
        rule=rule,
        description=description,
        mime_type=mime_type,
        flow=flow,
        session_access=session_access,
        validate=validate,
        pay_to=pay_to,
        minimum=minimum,
        maximum=maximum,
        extensions=extensions or {},
        unit_price=unit_price,
        metered=metered,
    )

    def decorate(view: View) -> View:
        if iscoroutinefunction(view):

            @wraps(view)
            async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                ensure_open(request, options, view)
                return await view(request, *args, **kwargs)

            guarded: Callable[..., Any] = guarded_async
        else:

            @wraps(view)
            def guarded_sync(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                ensure_open(request, options, view)
                return view(request, *args, **kwargs)

            guarded = guarded_sync
        setattr(guarded, OPTIONS_ATTRIBUTE, options)
        return cast(View, guarded)

    return decorate


def ensure_open(request: HttpRequest, options: PaidViewOptions, view: Any) -> None:
    """Fail closed: whoever calls a paid view around the gate is asked to pay at the gate.

    The gate sees a view's options on the resolved callback. Another decorator may hide them, or
    a view may call a paid view; then the middleware learns of the price from here. OPTIONS is
    answered by the gate; only REST framework's views, which have a ``cls``, get to see it.
    """
    if gate_state(request).is_open or (request.method == "OPTIONS" and hasattr(view, "cls")):
        return
    raise PaymentRequired(
        options.price,
        rule=options.rule,
        description=options.description,
        mime_type=options.mime_type,
        flow=options.flow,
        session_access=options.session_access,
        validate=options.validate,
        unit_price=options.unit_price,
        metered=options.metered,
        pay_to=options.pay_to,
        minimum=options.minimum,
        maximum=options.maximum,
        extensions=options.extensions,
    )
