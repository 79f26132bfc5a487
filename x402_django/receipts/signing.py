"""A receipt's digest, which anybody can compare, and its signature by the site's key.

The key is that of the extension ``offer-receipt``, whose public half is on the page of keys. Where
it is not turned on there is no signature; the digest, and the site's own page, still tell whether
a copy says what the site says.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from x402_django.exceptions import ConfigurationError
from x402_django.extensions import registry
from x402_django.extensions.offer_receipt import KEY, OfferReceipt

if TYPE_CHECKING:
    from x402_django.receipts.document import Document

#: The name of the typed data (EIP-712), and of nothing else of ours.
ARTIFACT = "ReceiptDocument"


def digest_of(document: Document) -> str:
    """SHA-256 over the canonical JSON (RFC 8785) of the document's facts, in hexadecimal."""
    text = json.dumps(document.facts(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def signature_of(document: Document) -> dict[str, Any] | None:
    """The signed reference, number and digest of a document; None where no key is turned on.

    Raises ConfigurationError where the key cannot be used.
    """
    extension = registry.enabled().get(KEY)
    if not isinstance(extension, OfferReceipt):
        return None
    payload = {
        "reference": document.reference,
        "number": document.number,
        "seller": document.seller,
        "digest": digest_of(document),
    }
    signed = extension.signer.sign(ARTIFACT, payload)
    return {**signed, "kid": extension.signer.kid}


def signature_or_none(document: Document) -> dict[str, Any] | None:
    """``signature_of``, also where the key cannot be used: a receipt is to be had all the same."""
    try:
        return signature_of(document)
    except ConfigurationError:
        return None
