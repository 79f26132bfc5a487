"""``request.payment.on_settled(…)``: effects of a view that must wait for its money."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction

from django.utils.functional import cached_property

Callback = Callable[[], object]


class SettledCallbacks:
    """The part of ``Payment`` that remembers, in this process, what is to follow settlement."""

    def on_settled(self, callback: Callback) -> None:
        """Call ``callback`` once this request's payment is settled. For views::

            @payment_required("$5")
            def licence(request):
                order = Order.objects.create(payer=request.payment.payer)
                request.payment.on_settled(order.ship)
                return JsonResponse({"order": order.pk})

        It runs once the view has answered well, the settlement is committed and the response
        stored, before the response leaves; in the order of registration, outside any transaction.
        It does not run if the view fails, the payment fails, or its outcome is not known when the
        request ends. A replay runs no view and so no callback; nor does another delivery of a
        response that was too large to store. What it raises is logged and never reaches the payer.

        It lives in this process: one that is killed runs nothing, and an outcome that becomes
        known later is announced by ``signals.payment_settled`` alone. A request whose view
        registered a callback is settled before its response leaves, also under the flow
        ``deferred``.

        Raises TypeError for a coroutine function: give a plain one.
        """
        if iscoroutinefunction(callback):
            raise TypeError("on_settled takes a plain function; a coroutine would not be awaited.")
        self._settled_callbacks.append(callback)

    @property
    def awaits_settlement(self) -> bool:
        """Whether ``on_settled`` was given anything that has not been taken."""
        return bool(self._settled_callbacks)

    def take_settled_callbacks(self) -> list[Callback]:
        """What ``on_settled`` was given since this was last called."""
        taken = list(self._settled_callbacks)
        self._settled_callbacks.clear()
        return taken

    @cached_property
    def _settled_callbacks(self) -> list[Callback]:
        return []
