"""Keys that sign what the site says of itself: offers and receipts that anybody can verify.

Two formats (x402 extension "offer-receipt", section 3.1.1): ``eip712``, typed data signed by an
Ethereum key, and ``jws``, a compact JSON Web Signature (RFC 7515) over canonical JSON (RFC 8785).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote, urlsplit

from x402_django.chain.wallets import key_source, settlement_account
from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError
from x402_django.facilitators import tokens

FORMATS: Final = ("eip712", "jws")

_HEX_KEY: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_FIELDS: Final = {
    "version": "uint256", "issuedAt": "uint256", "validUntil": "uint256",
}  # fmt: skip


class Signer(ABC):
    """One private key, in one format."""

    format: ClassVar[str]
    #: What names the key to verifiers: a DID URL.
    kid: str
    #: The public key (RFC 7517), with ``kid`` and ``alg``.
    jwk: Mapping[str, Any]

    @abstractmethod
    def sign(self, artifact: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The signed artifact.

        Args:
            artifact: ``"Offer"`` or ``"Receipt"``, the type's name in EIP-712.
            payload: its fields in the order of the schema; None where one is not given.
        """

    @property
    def address(self) -> str:
        """The key's Ethereum address; empty where its curve has none."""
        return address_of(self.jwk)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kid}>"


class TypedDataSigner(Signer):
    """``eip712``. The schema and the domain are the extension's (sections 3.2, 4.3 and 5.3)."""

    format = "eip712"

    def __init__(self, options: Mapping[str, Any], kid: str = "") -> None:
        self._account = settlement_account(options)
        public = _secp256k1_jwk(bytes(self._account.key))
        self.kid = kid or did_url(public) or f"did:pkh:eip155:1:{self._account.address}"
        self.jwk = {**public, "kid": self.kid}

    def sign(self, artifact: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        unused = {name: 0 if name in _FIELDS else "" for name in payload}
        message = {
            name: unused[name] if value is None else value for name, value in payload.items()
        }
        signed = self._account.sign_typed_data(
            {"name": f"x402 {artifact.lower()}", "version": "1", "chainId": 1},
            {artifact: [{"name": n, "type": _FIELDS.get(n, "string")} for n in payload]},
            message,
        )
        return {
            "format": self.format,
            "payload": message,
            "signature": "0x" + bytes(signed.signature).hex(),
        }


class WebSigner(Signer):
    """``jws``: ES256K with an Ethereum key; EdDSA or ES256 with a key as ``tokens`` reads them."""

    format = "jws"

    def __init__(self, options: Mapping[str, Any], kid: str = "") -> None:
        self._key = _web_key(options)
        self.kid = kid or did_url(self._key.jwk)
        if not self.kid:
            raise ConfigurationError(
                "Signatures of the format 'jws' must name their key. Set X402['BASE_URL'], so "
                "that did:web can, or give a DID URL as KID."
            )
        self.jwk = {**self._key.jwk, "kid": self.kid}

    def sign(self, artifact: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        # Canonical (RFC 8785): strings are ASCII and numbers whole, so sorting is all of it.
        claims = {name: payload[name] for name in sorted(payload) if payload[name] is not None}
        signature = tokens.encode({"kid": self.kid}, claims, self._key)
        return {"format": self.format, "signature": signature}


class _EthereumKey:
    """An Ethereum key that signs tokens (``ES256K``, RFC 8812)."""

    algorithm = "ES256K"

    def __init__(self, secret: bytes) -> None:
        from coincurve import PrivateKey

        self._key = PrivateKey(secret)
        self.jwk = _secp256k1_jwk(secret)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._key.sign_recoverable(message)[:64])


class _TokenKey(tokens.SigningKey):
    """A key of ``tokens`` with its public half."""

    @property
    def jwk(self) -> dict[str, Any]:
        public = self._key.public_key()
        if self.algorithm == "EdDSA":
            x = base64url(public.export_key(format="raw"))
            return {"kty": "OKP", "crv": "Ed25519", "x": x, "alg": self.algorithm}
        x, y = (base64url(int(n).to_bytes(32, "big")) for n in public.pointQ.xy)
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": self.algorithm}


def build_signer(options: Mapping[str, Any]) -> Signer:
    """The signer that the options of the extension describe. Raises ConfigurationError."""
    chosen = options.get("FORMAT", FORMATS[0])
    if chosen not in FORMATS:
        raise ConfigurationError(f"FORMAT must be one of {', '.join(FORMATS)}, not {chosen!r}.")
    kid = str(options.get("KID") or "")
    if kid and not kid.startswith("did:"):
        raise ConfigurationError(f"KID must be a DID URL, such as did:web:shop.example#1: {kid!r}.")
    return (TypedDataSigner if chosen == "eip712" else WebSigner)(options, kid)


def site_did() -> str:
    """The site's ``did:web`` by ``X402["BASE_URL"]``; empty without it."""
    if not x402.base_url:
        return ""
    return f"did:web:{quote(urlsplit(x402.base_url).netloc, safe='.-')}"


def did_url(jwk: Mapping[str, Any]) -> str:
    """The DID URL of a key on this site: its name is the beginning of its thumbprint (RFC 7638).

    Empty where the site has no ``did:web``.
    """
    did = site_did()
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y") if name in jwk}
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    return f"{did}#{base64url(hashlib.sha256(canonical).digest())[:12]}" if did else ""


def address_of(jwk: Mapping[str, Any]) -> str:
    """The Ethereum address of a public key; empty where it is of another curve."""
    if jwk.get("crv") != "secp256k1":
        return ""
    from eth_utils.address import to_checksum_address
    from eth_utils.crypto import keccak

    point = b"".join(_unbase64url(str(jwk[name])) for name in ("x", "y"))
    return str(to_checksum_address(keccak(point)[-20:]))


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _web_key(options: Mapping[str, Any]) -> _EthereumKey | _TokenKey:
    source = key_source(options)
    if source != "KEYSTORE":
        name = str(options["KEY_ENV"]) if source == "KEY_ENV" else "The option KEY"
        text = tokens.from_environment(name) if source == "KEY_ENV" else str(options["KEY"])
        if not _HEX_KEY.fullmatch(text.strip()):
            return _TokenKey(text, name)
    return _EthereumKey(bytes(settlement_account(options).key))


def _secp256k1_jwk(secret: bytes) -> dict[str, Any]:
    from coincurve import PublicKey

    point = PublicKey.from_valid_secret(secret).format(compressed=False)[1:]
    x, y = base64url(point[:32]), base64url(point[32:])
    return {"kty": "EC", "crv": "secp256k1", "x": x, "y": y, "alg": "ES256K"}
