"""``HasPaid``: a price as a permission."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rest_framework.permissions import BasePermission

from x402_django.exceptions import ServiceUnavailable
from x402_django.http.gate import let_in_free
from x402_django.http.matching import is_known_payment
from x402_django.http.resource import payment_headers
from x402_django.http.responses import challenge_for
from x402_django.http.state import GateState, gate_state
from x402_django.rest_framework.exceptions import (
    PaymentRequiredAPIException,
    PaymentUnavailableAPIException,
)
from x402_django.rest_framework.hypotheses import (
    VIEW_LEVEL,
    assumption,
    django_request,
    prospect_of,
)
from x402_django.rest_framework.quotes import known_quote, quote_view
from x402_django.rest_framework.validation import validate_before_payment

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from x402_django.pricing import Quote

logger = logging.getLogger("x402_django.rest_framework")


class HasPaid(BasePermission):
    """Let a request in that has paid. Composes like any permission::

        class ForecastView(APIView):
            permission_classes = [IsAuthenticated | HasPaid]    # free for members
            price = "$0.02"

            def get(self, request):
                return Response({"paid": request.payment is not None})

    The answer is 402 if, and only if, paying would let the request in: under ``IsAuthenticated &
    HasPaid`` a stranger gets 401, a member 402. An object's permissions count too: under
    ``IsOwner | HasPaid`` everybody pays but the owner. ``OPTIONS`` is free.

    The first pass of an unpaid request ends here; the gate takes the payment, outside the view's
    transaction, and the second pass is let in, with ``request.payment`` set. Throttles therefore
    count a paid request once, unless it is an object that is asked for (then each pass counts).

    A request that carries a payment and that the view could not use is refused before anything
    is taken: what a view creates is validated by its serializer first (``CreateModelMixin``), and
    a view's own ``validate_request(request)`` may raise, too.

    Two things to know:

    - ``HasPaid & IsOwner`` on an object asks for payment before the object is looked up, and a
      payer who is refused afterwards is not charged, but only if the payment flow is
      ``authorization``. For other flows let ``get_price`` call ``self.get_object()``: then the
      refusal comes first.
    - In a handler, ask ``request.payment``, not this class. To sell only some methods, subclass
      it (``return request.method in SAFE_METHODS or super().has_permission(request, view)``) or
      override ``get_permissions``; in the latter case set ``x402_asks = True`` on the view if
      its URL name has a price rule, so that the rule waits for the permissions.

    Raises PaymentRequiredAPIException (402), PaymentUnavailableAPIException (503, nothing prices
    the view) and ConfigurationError (the middleware is missing; never free).
    """

    #: Tells the middleware that the view asks for payment itself.
    x402_asks = True

    def has_permission(self, request: Request, view: APIView) -> bool:
        return self._is_let_in(request, view, VIEW_LEVEL)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return self._is_let_in(request, view, obj)

    def _is_let_in(self, request: Request, view: APIView, target: object) -> bool:
        assumed = assumption(request)
        if assumed is not None:
            return assumed
        http = django_request(request)
        state = gate_state(http)
        # A page cache around the view (``cache_page``) must not hand on what was paid for.
        vars(http)["_cache_update_cache"] = False
        if request.method == http.method and _pays_for(state, known_quote(request, view)):
            return True
        prospect = prospect_of(request, view, target, HasPaid)
        if not prospect.paid:
            # Neither way, or only unpaid (``~HasPaid``): refused with the refuser's own words.
            self.message = getattr(prospect.refuser, "message", None)
            self.code = getattr(prospect.refuser, "code", None)
            return False
        if prospect.unpaid and prospect.is_part:
            # Payment decides nothing here. True, not False: DRF's OR looks at an object only
            # through an operand that lets the request into the view.
            return True
        return self._has_paid(request, view, state)

    def _has_paid(self, request: Request, view: APIView, state: GateState) -> bool:
        """Whether the price is paid; asks for it if it is not and can be."""
        http = django_request(request)
        if "OPTIONS" in (request.method, http.method):
            return True
        if request.method != http.method:
            # The browsable API wonders whether to show a form for another method.
            return False
        try:
            quote = quote_view(request, view)
        except ServiceUnavailable as trouble:
            logger.error("%s %s cannot be sold: %s", http.method, http.path, trouble)
            raise PaymentUnavailableAPIException(trouble) from trouble
        if quote.is_free:
            let_in_free(http, state, quote)
            return True
        if _pays_for(state, quote):
            return True
        if payment_headers(http) and not is_known_payment(http):
            validate_before_payment(request, view)
        state.asked = quote
        raise PaymentRequiredAPIException(challenge_for(http, quote))


def _pays_for(state: GateState, quote: Quote | None) -> bool:
    """Whether the gate has accepted a payment at this very price.

    The gate's quote is compared, not the payment's row: a payment that was settled earlier for
    the same request and never delivered is good for it, even if it cost something else then.
    """
    if quote is None or not state.is_open or state.quote is None:
        return False
    return state.quote.offers == quote.offers
