"""Sign-in by wallet on the wire: the challenge in a 402, and the header that answers it.

The extension ``sign-in-with-x`` (x402 v2; CAIP-122) for EVM wallets: the text that is signed is
EIP-4361's, under EIP-191. It is put together here, since the SDK's is built on a library that
cannot be installed beside current versions of web3; the tests hold it against the SDK's
TypeScript client.

A challenge costs the site nothing to remember: its nonce is half random and half the site's own
code over all that is to be signed. Only a nonce that has been used is stored, until it expires.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from x402_django import conf
from x402_django.constants import SIGN_IN_HEADER, Code
from x402_django.exceptions import MalformedPayment
from x402_django.protocol import strict
from x402_django.protocol.networks import parse_chain_id
from x402_django.protocol.signatures import personal_message_digest

_SALT: Final = "x402_django.protocol.sign_in"
_VERSION: Final = "1"
#: EIP-191 is what plain accounts sign; contract wallets answer for such a digest too (EIP-1271).
_TYPE: Final = "eip191"
#: Hexadecimal digits of each half of a nonce; EIP-4361 wants letters and digits alone.
_HALF: Final = 32
_TEXTS: Final = ("domain", "uri", "version", "nonce", "issuedAt", "expirationTime", "statement")

_STRING: Final = {"type": "string"}
_URI: Final = {"type": "string", "format": "uri"}
_TIME: Final = {"type": "string", "format": "date-time"}
#: The JSON schema of an answer, as every challenge has it.
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "domain": _STRING,
        "address": _STRING,
        "statement": _STRING,
        "uri": _URI,
        "version": _STRING,
        "chainId": _STRING,
        "type": _STRING,
        "nonce": _STRING,
        "issuedAt": _TIME,
        "expirationTime": _TIME,
        "notBefore": _TIME,
        "requestId": _STRING,
        "resources": {"type": "array", "items": _URI},
        "signature": _STRING,
    },
    "required": [
        *("domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt"),
        "signature",
    ],
}


@dataclass(frozen=True, slots=True)
class SignInChallenge:
    """What a wallet is asked to sign to prove that it is the one that paid.

    ``uri`` is the canonical URL of the resource, ``domain`` its authority; times are RFC 3339.
    """

    domain: str
    uri: str
    statement: str
    issued_at: str
    expiration_time: str
    nonce: str

    @classmethod
    def issue(cls, uri: str, *, statement: str, now: int, lifetime: int) -> SignInChallenge:
        """A new one for the resource at ``uri``; times are in seconds."""
        domain, random = urlsplit(uri).netloc, secrets.token_hex(_HALF // 2)
        terms = (domain, uri, statement, _moment(now), _moment(now + lifetime))
        return cls(*terms, nonce=random + _code(random, terms, settings.SECRET_KEY))

    def is_ours(self) -> bool:
        """Whether this site issued it, just so."""
        *terms, nonce = (getattr(self, name) for name in self.__slots__)
        random, code = nonce[:_HALF], nonce[_HALF:]
        return any(
            constant_time_compare(code, _code(random, tuple(terms), key))
            for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        )

    @property
    def expires(self) -> datetime:
        """When it ends. Only of one that is ours."""
        return datetime.fromisoformat(self.expiration_time)

    def declaration(self, networks: tuple[str, ...]) -> dict[str, Any]:
        """What the 402 has under ``sign-in-with-x``; ``networks`` are CAIP-2, preferred first."""
        return {
            "info": {
                "domain": self.domain,
                "uri": self.uri,
                "statement": self.statement,
                "version": _VERSION,
                "nonce": self.nonce,
                "issuedAt": self.issued_at,
                "expirationTime": self.expiration_time,
                "resources": [self.uri],
            },
            "supportedChains": [{"chainId": one, "type": _TYPE} for one in networks],
            "schema": SCHEMA,
        }


@dataclass(frozen=True, slots=True)
class SignIn:
    """A strictly decoded answer. It is well-formed; nothing in it is believed yet.

    ``address`` is as it was written, which is how it was signed. ``network`` is CAIP-2.
    """

    challenge: SignInChallenge
    address: str
    network: str
    signature: bytes

    @property
    def text(self) -> str:
        """What was signed (EIP-4361, "ABNF Message Format")."""
        challenge = self.challenge
        return (
            f"{challenge.domain} wants you to sign in with your Ethereum account:\n"
            f"{self.address}\n\n"
            f"{challenge.statement}\n\n"
            f"URI: {challenge.uri}\n"
            f"Version: {_VERSION}\n"
            f"Chain ID: {parse_chain_id(self.network)}\n"
            f"Nonce: {challenge.nonce}\n"
            f"Issued At: {challenge.issued_at}\n"
            f"Expiration Time: {challenge.expiration_time}\n"
            f"Resources:\n"
            f"- {challenge.uri}"
        )

    @property
    def digest(self) -> bytes:
        """The 32 bytes under the signature (EIP-191)."""
        return personal_message_digest(self.text)


def read_sign_in(value: str) -> SignIn:
    """Decode a ``SIGN-IN-WITH-X`` header: base64 of a JSON object.

    Raises MalformedPayment: it is not a sign-in of EIP-4361 as this site's challenges ask for.
    """
    limit = conf.x402.max_header_bytes
    if len(value) > limit:
        raise MalformedPayment(
            f"The header {SIGN_IN_HEADER} is longer than {limit} bytes.",
            code=Code.HEADER_TOO_LARGE,
        )
    try:
        return _decode(strict.decode_json_object(strict.decode_base64(value)))
    except MalformedPayment as error:
        raise MalformedPayment(f"The header {SIGN_IN_HEADER} cannot be read: {error}") from error


def _decode(data: Mapping[str, Any]) -> SignIn:
    texts = {name: strict.string(data, name) for name in _TEXTS}
    strict.address(data, "address")
    network = strict.string(data, "chainId")
    if data.get("type") != _TYPE or texts["version"] != _VERSION:
        strict.malformed(f"'type' must be '{_TYPE}', and 'version' '{_VERSION}'.")
    if data.get("notBefore") is not None or data.get("requestId") is not None:
        strict.malformed("The challenge has neither 'notBefore' nor 'requestId'.")
    if data.get("resources") != [texts["uri"]]:
        strict.malformed("'resources' must be those of the challenge.")
    try:
        parse_chain_id(network)
    except ValueError:
        strict.malformed("'chainId' must be the CAIP-2 name of an EVM network.")
    challenge = SignInChallenge(
        domain=texts["domain"],
        uri=texts["uri"],
        statement=texts["statement"],
        issued_at=texts["issuedAt"],
        expiration_time=texts["expirationTime"],
        nonce=texts["nonce"],
    )
    signature = strict.signature(data, "signature")
    return SignIn(challenge, str(data["address"]), network, signature)


def _code(random: str, terms: tuple[str, ...], key: str | bytes) -> str:
    signed = json.dumps([random, *terms])
    return salted_hmac(_SALT, signed, secret=key, algorithm="sha256").hexdigest()[:_HALF]


def _moment(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
