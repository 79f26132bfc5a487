"""Short-lived JSON Web Tokens (RFC 7519, RFC 7515, RFC 8037) from the API keys of services.

Signed with pycryptodome, which eth-account brings along: a second cryptographic library for
thirty lines would be one more to keep up to date. Keys are read from the environment and are in
no message, log or representation here.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from x402_django.exceptions import ConfigurationError

if TYPE_CHECKING:
    from Crypto.PublicKey.ECC import EccKey

_ED25519: Final = "Ed25519"
_P256: Final = "NIST P-256"


class TokenSigner(Protocol):
    """What signs a token."""

    @property
    def algorithm(self) -> str:
        """The JWA name of its signatures."""

    def sign(self, message: bytes) -> bytes:
        """The signature of ``message``."""


class SigningKey:
    """A private key that signs tokens: Ed25519 (``EdDSA``) or ECDSA on P-256 (``ES256``).

    Args:
        secret: as services hand it out. Ed25519: base64 of seed and public key (64 bytes,
            Coinbase) or of PKCS #8 (PayAI). P-256: PEM, SEC 1 or PKCS #8; ``\\n`` may stand for a
            line's end, as in ``.env`` files.
        name: what to call it in an error.

    Raises ConfigurationError if ``secret`` is no such key; the message does not quote it.
    """

    def __init__(self, secret: str, name: str) -> None:
        try:
            key = _from_pem(secret) if "-----BEGIN" in secret else _from_base64(secret)
        except (ValueError, IndexError, TypeError, binascii.Error):
            key = None
        if key is None or not key.has_private() or key.curve not in (_ED25519, _P256):
            raise ConfigurationError(
                f"{name} is not a private key: neither base64 of an Ed25519 key nor the PEM of "
                "an ECDSA key on P-256. Copy it again, whole."
            )
        self._key = key

    @property
    def algorithm(self) -> str:
        """Its JWA name."""
        return "EdDSA" if self._key.curve == _ED25519 else "ES256"

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes (RFC 8037 3.1, RFC 7518 3.4)."""
        from Crypto.Hash import SHA256
        from Crypto.Signature import DSS, eddsa

        if self._key.curve == _ED25519:
            return eddsa.new(self._key, "rfc8032").sign(message)
        return DSS.new(self._key, "deterministic-rfc6979").sign(SHA256.new(message))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.algorithm}>"


def encode(header: Mapping[str, Any], claims: Mapping[str, Any], key: TokenSigner) -> str:
    """The token, in its compact form. ``alg`` is added to ``header``."""
    content = f"{_segment({'alg': key.algorithm, **header})}.{_segment(claims)}"
    return f"{content}.{_base64url(key.sign(content.encode()))}"


def from_environment(variable: str) -> str:
    """The value of an environment variable. Raises ConfigurationError if it is not set."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigurationError(f"The environment variable {variable} is not set.")
    return value


def is_set(variable: str) -> bool:
    """Whether the environment has a value for ``variable``."""
    return bool(os.environ.get(variable, "").strip())


def _from_pem(secret: str) -> EccKey:
    from Crypto.PublicKey import ECC

    return ECC.import_key(secret.replace("\\n", "\n"))


def _from_base64(secret: str) -> EccKey | None:
    from Crypto.PublicKey import ECC
    from Crypto.Signature import eddsa

    raw = base64.b64decode(secret, validate=True)
    if len(raw) != 64:
        return ECC.import_key(raw)
    key = eddsa.import_private_key(raw[:32])
    # Both halves must belong together: a key that lost a character would sign, and be refused.
    return key if key.public_key().export_key(format="raw") == raw[32:] else None


def _segment(content: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(content, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
