"""Signing secrets. They are shown once; here they are kept encrypted (AES-256-GCM).

The key is derived from ``SECRET_KEY``, so a copy of the database alone signs nothing. After
``SECRET_KEY`` changes, ``SECRET_KEY_FALLBACKS`` open what was sealed before; rotate the endpoints'
secrets before a fallback is removed.
"""

from __future__ import annotations

import base64
import secrets
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db.models import F
from django.utils.crypto import salted_hmac

from x402_django import clock
from x402_django.exceptions import ConfigurationError
from x402_django.models import WebhookEndpoint

#: How long the secret before it signs too when one is rotated.
GRACE: Final = timedelta(days=1)
PREFIX: Final = "whsec_"

_BYTES: Final = 32
_NONCE: Final = 12
_TAG: Final = 16
_SALT: Final = "x402_django.webhooks.secrets"


def give_secret(endpoint: WebhookEndpoint) -> str:
    """Make a secret for an endpoint that is about to be saved for the first time; return it."""
    secret = _new_secret()
    endpoint.sealed_secret = seal(secret)
    endpoint.created_at = clock.now()
    return secret


def rotate(endpoint: WebhookEndpoint) -> str:
    """A new secret; the one before it signs too for ``GRACE``, so that no receiver misses any."""
    secret = _new_secret()
    # One statement: of two rotations at once, the second retires the secret of the first.
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
        sealed_previous=F("sealed_secret"),
        sealed_secret=seal(secret),
        previous_until=clock.now() + GRACE,
        updated_at=clock.now(),
    )
    endpoint.refresh_from_db()
    return secret


def in_force(endpoint: WebhookEndpoint) -> list[str]:
    """The secrets that sign now, the newest first. Raises ConfigurationError if none opens."""
    found = [unseal(endpoint.sealed_secret)]
    until = endpoint.previous_until
    if endpoint.sealed_previous and until is not None and until > clock.now():
        found.append(unseal(endpoint.sealed_previous))
    return found


def seal(secret: str) -> str:
    """``secret`` as it is stored."""
    from Crypto.Cipher import AES

    nonce = secrets.token_bytes(_NONCE)
    cipher = AES.new(_key(settings.SECRET_KEY), AES.MODE_GCM, nonce=nonce)
    sealed, tag = cipher.encrypt_and_digest(secret.encode())
    return base64.b64encode(nonce + tag + sealed).decode()


def unseal(sealed: str) -> str:
    """What ``seal`` was given. Raises ConfigurationError if no key of the settings opens it."""
    from Crypto.Cipher import AES

    raw = base64.b64decode(sealed)
    nonce, tag, text = raw[:_NONCE], raw[_NONCE : _NONCE + _TAG], raw[_NONCE + _TAG :]
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        cipher = AES.new(_key(key), AES.MODE_GCM, nonce=nonce)
        try:
            return cipher.decrypt_and_verify(text, tag).decode()
        except ValueError:
            continue
    raise ConfigurationError(
        "A webhook's secret was sealed with another SECRET_KEY. Add that to SECRET_KEY_FALLBACKS, "
        "or rotate the secret."
    )


def _new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def _key(secret_key: str | bytes) -> bytes:
    return salted_hmac(_SALT, "seal", secret=secret_key, algorithm="sha256").digest()
