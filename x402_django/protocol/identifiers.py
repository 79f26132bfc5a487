"""Payment identifiers on the wire: what a payer calls a purchase, so that it is made once.

The extension ``payment-identifier`` (x402 v2, specs/extensions/payment_identifier.md), and the
``Idempotency-Key`` header (draft-ietf-httpapi-idempotency-key-header), which says the same where a
payload has no room for extensions.

Nothing here is the SDK's: its reader lets the payload bring the JSON schema, with whatever regular
expressions, that it is then judged by. The declaration is held against the SDK's by a test.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final

from x402_django.constants import IDEMPOTENCY_KEY_HEADER, Code
from x402_django.exceptions import MalformedPayment

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")


def is_identifier(value: str) -> bool:
    """Whether ``value`` has the form of one: 16 to 128 letters, digits, hyphens, underscores."""
    return _IDENTIFIER.fullmatch(value) is not None


def read_identifier(sent: object) -> str | None:
    """The identifier in a payload's entry; None where a client merely echoes the declaration.

    Raises MalformedPayment (``invalid_payment_identifier``).
    """
    if sent is None:
        return None
    info = sent.get("info") if isinstance(sent, dict) else None
    if not isinstance(info, dict):
        raise _invalid("'payment-identifier' must be an object with an object 'info'.")
    value = info.get("id")
    if value is None:
        return None
    if not isinstance(value, str) or not is_identifier(value):
        raise _invalid(f"'info.id' of 'payment-identifier' must be {_FORM}.")
    return value


def read_idempotency_key(value: str | None) -> str | None:
    """The identifier in an ``Idempotency-Key``, in quotes (as the draft has it) or without.

    Raises MalformedPayment (``invalid_payment_identifier``).
    """
    if value is None:
        return None
    bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not is_identifier(bare):
        raise _invalid(f"{IDEMPOTENCY_KEY_HEADER} of a payment must be {_FORM}.")
    return bare


@lru_cache(maxsize=2)
def declaration(required: bool) -> str:
    """What the challenge has under the key, as JSON text."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "required": {"type": "boolean"},
            "id": {
                "type": "string",
                "minLength": 16,
                "maxLength": 128,
                "pattern": "^[a-zA-Z0-9_-]+$",
            },
        },
        "required": ["required"],
    }
    document = {"info": {"required": required}, "schema": schema}
    return json.dumps(document, separators=(",", ":"))


_FORM: Final = "16 to 128 letters, digits, hyphens and underscores"


def _invalid(message: str) -> MalformedPayment:
    return MalformedPayment(message, code=Code.INVALID_IDENTIFIER)
