"""The headers of Standard Webhooks, version 1 (HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

from x402_django.webhooks.secrets import PREFIX


def headers(message_id: str, timestamp: int, body: str, secrets: Iterable[str]) -> dict[str, str]:
    """``webhook-id``, ``webhook-timestamp`` (Unix seconds) and one signature per secret.

    ``secrets`` are ``whsec_`` and base64.
    """
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
