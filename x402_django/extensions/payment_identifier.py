"""``payment-identifier``: the payer names a purchase, and is served from it whatever is lost.

What an identifier decides is in ``payments.identifiers``; here it is read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from django.core.checks import CheckMessage, Error

from x402_django.constants import IDEMPOTENCY_KEY_HEADER, PAYMENT_IDENTIFIER, Code
from x402_django.exceptions import MalformedPayment
from x402_django.extensions.base import Asked, Extension
from x402_django.protocol.identifiers import declaration, read_idempotency_key, read_identifier

if TYPE_CHECKING:
    from x402_django.payments.facts import RequestFacts


class PaymentIdentifier(Extension):
    """On by itself. ``REQUIRED``: refuse payments without an identifier (400)."""

    key = PAYMENT_IDENTIFIER
    option_names = frozenset({"REQUIRED"})

    def declare(self, asked: Asked) -> str:
        return declaration(_is_required(asked))

    def read(self, sent: object, asked: Asked, facts: RequestFacts) -> RequestFacts:
        in_payload = read_identifier(sent)
        in_header = read_idempotency_key(asked.request.headers.get(IDEMPOTENCY_KEY_HEADER))
        if in_payload is not None and in_header is not None and in_payload != in_header:
            raise MalformedPayment(
                f"The payment's identifier and {IDEMPOTENCY_KEY_HEADER} differ. Send one of them.",
                code=Code.INVALID_IDENTIFIER,
            )
        identifier = in_payload or in_header
        if identifier is None and _is_required(asked):
            raise MalformedPayment(
                "This payment needs an identifier: 'info.id' under the extension "
                f"'{PAYMENT_IDENTIFIER}', or the header {IDEMPOTENCY_KEY_HEADER}.",
                code=Code.IDENTIFIER_REQUIRED,
            )
        return replace(facts, identifier=identifier)

    def check(self) -> list[CheckMessage]:
        required = self.options.get("REQUIRED", False)
        if isinstance(required, bool):
            return []
        where = f"X402['EXTENSIONS'][{self.key!r}]['OPTIONS']['REQUIRED']"
        hint = "Write True or False."
        return [Error(f"{where} is {required!r}.", hint=hint, id="x402_django.E063")]


def _is_required(asked: Asked) -> bool:
    return bool(asked.options.get("REQUIRED", False))
