"""The class that an extension derives from, and what its hooks are told.

An extension (x402 v2, section 5.1.2 "extensions") is a key that the challenge declares something
under, and that a client's payload may have something under. Every hook has a default that does
nothing, so an extension writes only those that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from django.http import HttpRequest

    from x402_django.models import Payment
    from x402_django.payments.facts import RequestFacts
    from x402_django.payments.holdings import Holder
    from x402_django.pricing import Quote


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a paid view, as an extension sees it.

    Args:
        request: Django's request.
        quote: what it costs.
        resource_url: its canonical URL, without the query.
        options: the extension's options for this view: those of the setting, and over them what
            the view or its price rule says.
        facts: what a payment for the request is bound to. Reads the request's body; raises
            RequestDataTooBig, or RawPostDataException where the view has read it as a stream.
    """

    request: HttpRequest
    quote: Quote
    resource_url: str
    options: Mapping[str, Any]
    facts: Callable[[], RequestFacts]


class Extension:
    """One extension. There is one instance per process, so keep no request's data on it.

    Hooks that run on a payer's request may raise MalformedPayment (answered 400), PaymentConflict
    (409), PaymentRefused (402) or ServiceUnavailable (503). They run outside the view's
    transaction.
    """

    #: The name under ``extensions`` on the wire.
    key: ClassVar[str]
    #: What may stand in ``OPTIONS``, and in ``extensions={key: {…}}`` of a view.
    option_names: ClassVar[frozenset[str]] = frozenset()
    #: Request headers by which ``admit`` may let a request in. Answers vary on them.
    access_headers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def declare(self, asked: Asked) -> Mapping[str, Any] | str | None:
        """What the challenge has under the key, in v2 alone. None: nothing for this request.

        Called for each challenge, without a query if it can be helped. What is always the same
        may be given as its JSON text, encoded once.
        """
        return None

    def read(self, sent: object, asked: Asked, facts: RequestFacts) -> RequestFacts:
        """Judge what a payload has under the key, before the payment is claimed.

        Args:
            sent: the value as it came, of any JSON type; None where there is none, as always in
                v1. Official clients echo what was declared.
            asked: the request.
            facts: what the payment is to be bound to.

        Returns ``facts``, or ``facts.keeping(self.key, entry)`` to keep an entry in the ledger
        (``payment.extensions``) and pass it on to the facilitator.
        """
        return facts

    def admit(self, asked: Asked) -> Payment | Holder | None:
        """The earlier payment by which a request without a payment may enter, free; else None.

        Or the wallet that has proved who it is, for what it holds to be looked up.

        Called only if the request has one of ``access_headers``. If the payment has not been
        delivered yet, the view that then runs delivers it.
        """
        return None

    def acknowledge(self, payment: Payment, request: HttpRequest) -> Mapping[str, Any] | None:
        """What ``PAYMENT-RESPONSE`` has under the key as the answer leaves, in v2 alone."""
        return None

    def check(self) -> list[CheckMessage]:
        """Problems of its options, for ``manage.py check``. No network, no database."""
        return []
