"""The 402 challenge: one answer that v2 clients read in a header and v1 clients in the body.

Every unpaid request costs one of these, so they are kept once they are encoded (x402 v2
"PaymentRequired"; v1 "paymentRequirementsResponse"). JSON is written in ASCII: headers are
latin-1, and the oldest clients decode base64 to latin-1.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed

from x402_django.constants import Code
from x402_django.exceptions import PaymentRequired
from x402_django.protocol.sdk import declare_extensions
from x402_django.protocol.service_metadata import service_metadata
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
        extensions: keys, each with the JSON text of what is declared. In v2 only.
    """

    resource_url: str
    description: Any
    mime_type: str
    offers: tuple[Offer, ...]
    error: str = Code.PAYMENT_REQUIRED
    message: Any = PaymentRequired.message
    extensions: tuple[tuple[str, str], ...] = ()

    def header_value(self) -> str:
        """The value of ``PAYMENT-REQUIRED``: base64 of the v2 object, ASCII."""
        document = _v2_json(
            self.resource_url, str(self.description), self.mime_type, tuple(self.offers), self.error
        )
        extensions = (*_sponsoring(frozenset(o.sponsoring for o in self.offers)), *self.extensions)
        if extensions:  # apart: what some of them declare is different each time
            declared = ",".join(f"{json.dumps(key)}:{text}" for key, text in extensions)
            document = b'%s,"extensions":{%s}}' % (document[:-1], declared.encode("ascii"))
        return base64.b64encode(document).decode("ascii")

    def v1_json(self) -> bytes:
        """``v1_body`` as compact JSON, ASCII."""
        return _v1_json(
            self.resource_url,
            str(self.description),
            self.mime_type,
            tuple(self.offers),
            self.error,
            str(self.message),
        )

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


# Few pages of a site get most of its challenges, so whole ones are kept. The caches are small:
# a path may be as long as a client likes.


@lru_cache(maxsize=256)
def _v2_json(
    resource_url: str, description: str, mime_type: str, offers: tuple[Offer, ...], error: str
) -> bytes:
    resource: dict[str, Any] = {"url": resource_url}
    if description:
        resource["description"] = description
    if mime_type:
        resource["mimeType"] = mime_type
    resource |= service_metadata()
    document: dict[str, Any] = {
        "x402Version": 2,
        "error": error,
        "resource": resource,
        "accepts": [offer.as_v2() for offer in offers],
    }
    return _compact(document)


@lru_cache(maxsize=8)
def _sponsoring(keys: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """What is declared where approvals of Permit2 are paid for."""
    wanted = sorted(keys - {""})
    if not wanted:
        return ()
    declared = declare_extensions(wanted)
    return tuple((key, _compact(declared[key]).decode("ascii")) for key in wanted)


@lru_cache(maxsize=256)
def _v1_json(
    resource_url: str,
    description: str,
    mime_type: str,
    offers: tuple[Offer, ...],
    error: str,
    message: str,
) -> bytes:
    challenge = Challenge(resource_url, description, mime_type, offers, error, message)
    return _compact(challenge.v1_body())


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":  # a network's v1 name, or the service's own, may have changed
        _v1_json.cache_clear()
        _v2_json.cache_clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.protocol.challenge.reset")
