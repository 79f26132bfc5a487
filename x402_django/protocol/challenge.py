"""The 402 challenge: one answer that v2 clients read in a header and v1 clients in the body.

Every unpaid request costs one of these, so the parts that do not change are serialised once per
price and only the URL and the error are put in (x402 v2 "PaymentRequired"; v1
"paymentRequirementsResponse"). JSON is written in ASCII: headers are latin-1, and the oldest
clients decode base64 to latin-1.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from x402_django.constants import Code
from x402_django.exceptions import PaymentRequired
from x402_django.protocol.types import Offer


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a client must know to pay.

    Args:
        resource_url: canonical URL, without anything personal in it.
        description: shown to the payer; may be a lazy translation, resolved when written.
        mime_type: of the content being sold; may be empty.
        offers: the ways to pay, preferred first.
        error: a ``Code``: why payment is asked for.
        message: a sentence for a person, in the v1 body only (clients ignore the key).
    """

    resource_url: str
    description: Any
    mime_type: str
    offers: tuple[Offer, ...]
    error: str = Code.PAYMENT_REQUIRED
    message: Any = PaymentRequired.message

    def header_value(self) -> str:
        """The value of ``PAYMENT-REQUIRED``: base64 of the v2 object, ASCII."""
        resource_rest, accepts = _v2_parts(
            tuple(self.offers), str(self.description), self.mime_type
        )
        document = (
            f'{{"x402Version":2,"error":{json.dumps(self.error)},'
            f'"resource":{{"url":{json.dumps(self.resource_url)}{resource_rest}}},'
            f'"accepts":{accepts}}}'
        )
        return base64.b64encode(document.encode("ascii")).decode("ascii")

    def v1_body(self) -> dict[str, Any]:
        """The v1 object, for the JSON body. Offers on networks without a v1 name are left out."""
        offered = (
            offer.as_v1(
                resource=self.resource_url,
                description=str(self.description),
                mime_type=self.mime_type,
            )
            for offer in self.offers
        )
        return {
            "x402Version": 1,
            "error": self.error,
            "message": str(self.message),
            "accepts": [entry for entry in offered if entry is not None],
        }


@lru_cache(maxsize=1024)
def _v2_parts(offers: tuple[Offer, ...], description: str, mime_type: str) -> tuple[str, str]:
    """JSON of what stands after the resource's URL, and of ``accepts``."""
    rest = ""
    if description:
        rest += f',"description":{json.dumps(description)}'
    if mime_type:
        rest += f',"mimeType":{json.dumps(mime_type)}'
    return rest, json.dumps([offer.as_v2() for offer in offers], separators=(",", ":"))
