"""API keys of the facilitator service.

A key is 256 random bits, so a plain digest of it is safe to store and to look up by. Its last
eight digits are a checksum: what was mistyped or made up is refused without asking the database.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from datetime import timedelta
from typing import Any, Final

from django.db.models import Q

from x402_django import clock
from x402_django.exceptions import InvalidApiKey
from x402_django.models import FacilitatorKey

#: How long the key before it stays good when one is rotated, unless told otherwise.
GRACE: Final = timedelta(days=1)

_START: Final = "x402fk_"
_SHOWN: Final = len(_START) + 6
_RANDOM_BYTES: Final = 32
_CHECKSUM: Final = 8


def issue(name: str, **limits: Any) -> tuple[FacilitatorKey, str]:
    """A new key and its secret, which is to be had now and never again.

    ``limits`` are fields of ``FacilitatorKey``. Raises ValidationError for unusable ones, and for
    a name that is taken.
    """
    key = FacilitatorKey(name=name, **limits)
    secret = give_secret(key)
    key.full_clean()
    key.save(force_insert=True)
    return key, secret


def give_secret(key: FacilitatorKey) -> str:
    """Make a secret for a key that is about to be saved for the first time, and return it."""
    secret = _new_secret()
    key.prefix, key.digest = secret[:_SHOWN], _digest(secret)
    key.created_at = clock.now()
    return secret


def rotate(key: FacilitatorKey, *, grace: timedelta = GRACE) -> str:
    """A new secret for ``key``; the one before it stays good for ``grace``.

    Raises InvalidApiKey for a key that is revoked.
    """
    secret, now = _new_secret(), clock.now()
    # One statement: of two rotations at once, the second retires the secret of the first.
    rotated = FacilitatorKey.objects.filter(
        pk=key.pk, revoked_at__isnull=True, digest=key.digest
    ).update(
        prefix=secret[:_SHOWN],
        digest=_digest(secret),
        previous_digest=key.digest,
        previous_until=now + grace,
        rotated_at=now,
    )
    if not rotated:
        raise InvalidApiKey("This key was revoked, or rotated at this very moment.")
    key.refresh_from_db()
    return secret


def revoke(key: FacilitatorKey) -> None:
    """Refuse the key, and the one before it, from now on and for good."""
    FacilitatorKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(
        revoked_at=clock.now(), previous_digest="", previous_until=None
    )
    key.refresh_from_db()


def authenticate(secret: str) -> FacilitatorKey:
    """The key that ``secret`` opens. Raises InvalidApiKey for any other text."""
    if not _is_plausible(secret):
        raise InvalidApiKey()
    digest = _digest(secret)
    key = FacilitatorKey.objects.filter(
        Q(digest=digest) | Q(previous_digest=digest, previous_until__gt=clock.now()),
        revoked_at__isnull=True,
    ).first()
    if key is None:
        raise InvalidApiKey()
    return key


def _new_secret() -> str:
    random = _START + secrets.token_urlsafe(_RANDOM_BYTES)
    return random + _checksum(random)


def _is_plausible(secret: str) -> bool:
    if not secret.isascii() or not secret.startswith(_START) or len(secret) > 128:
        return False
    return secret[-_CHECKSUM:] == _checksum(secret[:-_CHECKSUM])


def _checksum(random: str) -> str:
    return f"{zlib.crc32(random.encode()):0{_CHECKSUM}x}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
