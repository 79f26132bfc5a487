"""The gate, installed. One middleware, sync and async.

Views that declare a price, and views whose URL name a rule prices, are charged in
``process_view``, before they run. Views that only find out inside (``HasPaid`` in a permission
expression, ``raise PaymentRequired``) *ask*: they end in a 402 with a quote on the request, and
if the request carries a payment for it, the middleware takes it, outside the view's
transaction, and runs the view a second time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse, RawPostDataException, UnreadablePostError
from django.http.response import HttpResponseBase

from x402_django.conf import x402
from x402_django.exceptions import PaymentRequired, ServiceUnavailable
from x402_django.extensions.registry import may_admit
from x402_django.http import responses
from x402_django.http.access import presented_access
from x402_django.http.asking import asks_itself
from x402_django.http.cors import is_preflight, open_to_origin, preflight_response
from x402_django.http.gate import abandon, close_gate, open_gate
from x402_django.http.holding import may_enter
from x402_django.http.quoting import quote_for
from x402_django.http.resource import carries_payment
from x402_django.http.state import ATTRIBUTE, GateState, is_never_for_sale
from x402_django.payments.delivery import discard
from x402_django.pricing import PaidViewOptions, Quote
from x402_django.pricing.cache import fresh_rules

if TYPE_CHECKING:
    from django.http import HttpRequest

logger = logging.getLogger("x402_django.http")

#: Where decorators and mixins leave a view's options.
OPTIONS_ATTRIBUTE = "x402_paid"
#: What DRF's authentication writes on Django's request.
_IDENTITY = ("user", "auth")

GetResponse = Callable[["HttpRequest"], HttpResponseBase]
AsyncGetResponse = Callable[["HttpRequest"], Awaitable[HttpResponseBase]]


class PaymentMiddleware:
    """Add ``x402_django.http.middleware.PaymentMiddleware`` to ``MIDDLEWARE``, after
    authentication and inside anything that changes responses (compression, caching).
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
            self.process_view: Callable[..., Any] = self._process_view_async
        else:
            self.process_view = self._process_view

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._call_async(request)
        state = _attach(request)
        response = self.get_response(request)
        if state.asked is not None and not state.is_open:
            answer = _answer_asked(request, state, response)
            if answer is not None:
                return _leave(request, answer)
            response = self.get_response(request)
        return _leave(request, _finish(request, state, response), state)

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        state = _attach(request)
        response = await self._respond(request, state)
        if state.asked is not None and not state.is_open:
            answer = await sync_to_async(_answer_asked)(request, state, response)
            if answer is not None:
                return _leave(request, answer)
            response = await self._respond(request, state)
        if state.is_open or state.asked is not None:
            response = await sync_to_async(_finish)(request, state, response)
        return _leave(request, response, state)

    async def _respond(self, request: HttpRequest, state: GateState) -> HttpResponseBase:
        try:
            response: HttpResponseBase = await self.get_response(request)
        except asyncio.CancelledError:
            # The client went away. What is not yet paid need not wait for the claim to time out.
            # What is paid does: its view may have effects, and may still run in a thread.
            unpaid = state.payment is not None and not state.payment.is_paid
            if unpaid or state.use is not None:
                await asyncio.shield(sync_to_async(abandon)(state, "The client went away."))
            raise
        return response

    def _process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        options = getattr(view, OPTIONS_ATTRIBUTE, None)
        if options is None and is_never_for_sale(view):
            return None
        if options is None and asks_itself(view):
            return _leave_to_view(request)
        return _open_for_view(request, view, options)

    async def _process_view_async(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        options = getattr(view, OPTIONS_ATTRIBUTE, None)
        if options is None and asks_itself(view):
            return _leave_to_view(request)
        if options is None and (_surely_free(request) or is_never_for_sale(view)):
            return None
        return await sync_to_async(_open_for_view)(request, view, options)

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Turn a ``PaymentRequired`` out of a view into a question for payment."""
        if not isinstance(exception, PaymentRequired):
            return None
        state: GateState = getattr(request, ATTRIBUTE)
        try:
            quote = quote_exception(request, exception)
        except ServiceUnavailable as trouble:
            return _cannot_be_sold(request, trouble)
        state.asked = quote
        return HttpResponse(status=402)


def quote_exception(request: HttpRequest, exception: PaymentRequired) -> Quote:
    """The Quote that a raised ``PaymentRequired`` stands for. Raises PriceNotConfigured."""
    options = PaidViewOptions(
        price=exception.price,
        rule=exception.rule,
        description=exception.description,
        mime_type=exception.mime_type,
        flow=exception.flow,
        unit_price=exception.unit_price,
        metered=exception.metered,
        session_access=exception.session_access,
        validate=exception.validate,
        pay_to=exception.pay_to,
        minimum=exception.minimum,
        maximum=exception.maximum,
        extensions=exception.extensions,
    )
    quote = quote_for(request, options, _url_name(request))
    if quote is None:
        raise ServiceUnavailable()
    return quote


def _attach(request: HttpRequest) -> GateState:
    attributes = vars(request)
    state = GateState(identity={name: attributes[name] for name in _IDENTITY if name in attributes})
    setattr(request, ATTRIBUTE, state)
    request.payment = None  # type: ignore[attr-defined]
    if carries_payment(request):
        # A claim is bound to the body's digest: keep it before a form parser drains the stream.
        # What is wrong with it is found, and answered, when the claim is made.
        with suppress(RequestDataTooBig, RawPostDataException, UnreadablePostError):
            _ = request.body
    return state


def _restore_identity(request: HttpRequest, state: GateState) -> None:
    """Undo what the first run made of the request's user: it must not vouch for the second."""
    attributes = vars(request)
    for name in _IDENTITY:
        attributes.pop(name, None)
    attributes.update(state.identity)


def _url_name(request: HttpRequest) -> str | None:
    match = request.resolver_match
    return match.view_name if match is not None else None


def _surely_free(request: HttpRequest) -> bool:
    """True when the rules in memory say that no rule names this URL: no thread is needed."""
    rules = fresh_rules()
    return rules is not None and _url_name(request) not in rules.by_url_name


def _open_for_view(
    request: HttpRequest, view: Callable[..., Any], options: PaidViewOptions | None
) -> HttpResponseBase | None:
    state: GateState = getattr(request, ATTRIBUTE)
    if state.is_open:  # the second run of a view that asked
        return None
    if options is not None and request.method == "OPTIONS":
        return _answer_options(request, view, state)
    try:
        quote = quote_for(request, options, _url_name(request))
    except ServiceUnavailable as trouble:
        state.answered = True
        return _cannot_be_sold(request, trouble)
    if quote is None:
        return None
    state.is_sold = True
    if request.method == "OPTIONS":
        return _answer_options(request, view, state)
    answer = open_gate(request, state, quote)
    state.answered = answer is not None
    return answer


def _answer_options(
    request: HttpRequest, view: Callable[..., Any], state: GateState
) -> HttpResponseBase | None:
    """Free, and without asking what it would cost. REST framework's views answer themselves."""
    state.is_sold = True
    if is_preflight(request):
        return preflight_response(request)
    return None if hasattr(view, "cls") else responses.options_response(view)


def _leave_to_view(request: HttpRequest) -> HttpResponseBase | None:
    """A view that asks itself; but not about a preflight, which brings no credentials."""
    state: GateState = getattr(request, ATTRIBUTE)
    state.is_sold = True
    return preflight_response(request) if is_preflight(request) else None


def _cannot_be_sold(request: HttpRequest, trouble: ServiceUnavailable) -> HttpResponseBase:
    """503. What is wrong is the operator's to know; the client gets the class's own sentence."""
    logger.error("%s %s cannot be sold: %s", request.method, request.path, trouble)
    return responses.error_response(request, 503, type(trouble)())


def _answer_asked(
    request: HttpRequest, state: GateState, response: HttpResponseBase
) -> HttpResponseBase | None:
    """What becomes of a request whose view asked for payment. None: run the view again."""
    if state.asked is not None and state.asked.is_free:
        return _take_payment(request, state, response)
    if (
        carries_payment(request)
        or may_enter(request)
        or presented_access(request) is not None
        or may_admit(request)
    ):
        return _take_payment(request, state, response)
    return _challenge_asked(request, state, response)


def _challenge_asked(
    request: HttpRequest, state: GateState, response: HttpResponseBase
) -> HttpResponseBase:
    """Put the challenge on the 402 that the view's own machinery rendered, or make one."""
    quote = state.asked
    if quote is None:
        return response
    if response.status_code == 402 and isinstance(response, HttpResponse) and response.content:
        challenge = responses.challenge_for(request, quote)
        return responses.add_challenge(request, response, quote, challenge)
    return responses.payment_required(request, quote)


def _take_payment(
    request: HttpRequest, state: GateState, response: HttpResponseBase
) -> HttpResponseBase | None:
    """Accept the payment for what the view asked. None: run the view again."""
    quote, state.asked = state.asked, None
    discard(response)
    if quote is None:
        return response
    answer = open_gate(request, state, quote)
    state.answered = answer is not None
    _restore_identity(request, state)
    return answer


def _leave(
    request: HttpRequest, response: HttpResponseBase, state: GateState | None = None
) -> HttpResponseBase:
    """The last touch to an answer of what is for sale, whoever gave it."""
    gate: GateState = getattr(request, ATTRIBUTE)
    if gate.consulted or gate.is_timed:
        # Which price applies, or that none does, is not the same for everybody, nor for ever
        # (threat 16).
        responses.private(response, *sorted(gate.consulted))
    if state is not None and not (state.is_sold or state.is_open):
        return response
    if x402.robots_tag:
        response.setdefault("X-Robots-Tag", x402.robots_tag)
    return open_to_origin(request, response)


def _finish(request: HttpRequest, state: GateState, response: HttpResponseBase) -> HttpResponseBase:
    if state.asked is not None and state.is_open:
        # Paid what was asked, and asked again: let the payment go and say what it costs now.
        logger.warning(
            "%s %s asked for a payment again after it was paid. A view that raises "
            "PaymentRequired must check request.payment first.",
            request.method,
            request.path,
        )
        abandon(state)
        discard(response)
        return responses.payment_required(request, state.asked)
    if state.answered:
        return response
    return close_gate(request, state, response)
