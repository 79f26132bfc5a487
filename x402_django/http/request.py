"""What a view's ``request`` is, for type checkers. Nothing is of these classes at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

if TYPE_CHECKING:
    from x402_django.models import Payment


class PayableRequest(HttpRequest):
    """A request that the middleware has seen. ``payment`` is None unless one was accepted."""

    payment: Payment | None


class PaidRequest(HttpRequest):
    """The request of a view that runs only when paid::

        @payment_required("$0.01")
        def weather(request: PaidRequest) -> HttpResponse: ...

    ``payment`` is the ledger's row: ``payer`` and ``pay_to`` (checksummed addresses), ``amount``
    (atomic units of ``asset``), ``network`` (CAIP-2), ``price_usd`` (None for a price in token
    units) and ``public_id``. ``is_paid`` tells whether the money has moved: it has under the flow
    ``upfront``; under ``authorization`` it moves once the view has answered, and ``transaction``
    is empty until then; under ``deferred`` it moves after the response has left. Effects that
    must wait for the money go into ``on_settled(callback)``. For reading: only ``payments/``
    writes it.
    """

    payment: Payment
