"""Notices about addresses that services send: who sent them, and which transactions they name.

A notice is a hint: it says where to look and never what is there. To add a service, write a class
with ``verify`` and ``read`` and name it in ``PROVIDERS``.

Alchemy (docs: "Address Activity Webhook", "Webhooks Quickstart") signs the body with HMAC-SHA256,
hex in ``X-Alchemy-Signature``, under the signing key of the webhook. When it was sent is in the
signed body alone.

Coinbase Developer Platform (docs: "Verify Signatures"; the scheme of Hook0) sends
``X-Hook0-Signature: t=…,v0=…,h=…,v1=…``: ``v0`` is the HMAC-SHA256 of ``t.body``, ``v1`` that of
``t.h.values.body`` with the values of the headers that ``h`` names, all joined with dots.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, Protocol

from x402_django import clock
from x402_django.conf_entries import ChainWebhookSettings
from x402_django.exceptions import ConfigurationError, InvalidNotice, MalformedPayment
from x402_django.protocol import strict
from x402_django.protocol.assets import is_address, to_checksum_address

#: A clock that is ahead of ours by more than this is not believed.
_AHEAD: Final = timedelta(minutes=5)
#: Transactions that are looked at of one notice; services put few in each.
MAX_NAMED: Final = 200

_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Named:
    """A transaction that a notice names; sender and recipient where it is a transfer."""

    transaction: str
    sender: str | None = None
    recipient: str | None = None


class Provider(Protocol):
    """How a service signs and writes its notices."""

    #: How old a notice may be.
    max_age: ClassVar[timedelta]

    def verify(self, headers: Mapping[str, str], body: bytes, secret: bytes) -> None:
        """Raises InvalidNotice for a signature that is not the service's."""

    def sent_at(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> datetime:
        """When it was signed, of a notice that is verified. Raises ValueError without a time."""

    def read(self, document: Mapping[str, Any]) -> Iterator[Named]:
        """What it names; whatever has another form is passed over."""


class Alchemy:
    """Webhooks of the type Address Activity. Retried for hours, with the first body."""

    max_age: ClassVar = timedelta(days=1)

    def verify(self, headers: Mapping[str, str], body: bytes, secret: bytes) -> None:
        if not _signs(headers.get("X-Alchemy-Signature", ""), secret, body):
            raise InvalidNotice()

    def sent_at(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> datetime:
        return datetime.fromisoformat(str(document.get("createdAt")))

    def read(self, document: Mapping[str, Any]) -> Iterator[Named]:
        event = document.get("event")
        activity = event.get("activity") if isinstance(event, dict) else None
        for one in activity if isinstance(activity, list) else ():
            if isinstance(one, dict):
                yield from _named(one.get("hash"), one.get("fromAddress"), one.get("toAddress"))


class Cdp:
    """``onchain.activity.detected`` and ``wallet.activity.detected``, flat or inside ``data``.
    Signed anew each time they are sent.
    """

    max_age: ClassVar = timedelta(minutes=5)

    def verify(self, headers: Mapping[str, str], body: bytes, secret: bytes) -> None:
        parts = self._parts(headers)
        time = parts.get("t", "")
        if "v0" in parts:
            good = _signs(parts["v0"], secret, f"{time}.".encode() + body)
        else:
            names = parts.get("h", "")
            values = ".".join(headers.get(name, "") for name in names.split())
            signed = f"{time}.{names}.{values}.".encode() + body
            good = _signs(parts.get("v1", ""), secret, signed)
        if not good:
            raise InvalidNotice()

    def sent_at(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> datetime:
        time = self._parts(headers).get("t", "")
        if not (time.isascii() and time.isdigit() and len(time) <= 11):
            raise ValueError(time)
        return datetime.fromtimestamp(int(time), UTC)

    def read(self, document: Mapping[str, Any]) -> Iterator[Named]:
        data = document.get("data")
        for one in (document, data if isinstance(data, dict) else {}):
            parameters = one.get("parameters")
            between = parameters if isinstance(parameters, dict) else {}
            found = one.get("transaction_hash", one.get("transactionHash"))
            yield from _named(found, between.get("from"), between.get("to"))

    def _parts(self, headers: Mapping[str, str]) -> dict[str, str]:
        fields = headers.get("X-Hook0-Signature", "").split(",")
        return dict(field.strip().partition("=")[::2] for field in fields)


PROVIDERS: Final[Mapping[str, Provider]] = {"alchemy": Alchemy(), "cdp": Cdp()}


def read_notice(
    settings: ChainWebhookSettings, headers: Mapping[str, str], body: bytes
) -> tuple[Named, ...]:
    """What a notice names, once it is known to be the service's and of today.

    ``headers`` is case-insensitive.

    Raises:
        InvalidNotice: not signed by the service, or too old.
        MalformedPayment: it is no JSON object.
        ConfigurationError: the secret is not to be had.
    """
    provider = PROVIDERS.get(settings.provider)
    if provider is None:
        raise ConfigurationError(f"There is no webhook provider {settings.provider!r}.")
    secret = os.environ.get(settings.secret_env, "").strip()
    if not secret:
        raise ConfigurationError(f"The environment variable {settings.secret_env} is not set.")
    provider.verify(headers, body, secret.encode())
    try:
        document = strict.decode_json_object(body)
    except MalformedPayment:
        raise MalformedPayment("The notice is not a JSON object.") from None
    try:
        age = clock.now() - provider.sent_at(headers, document)
    except (ValueError, TypeError):  # the latter: a time without a zone
        raise InvalidNotice("The notice does not say when it was sent.") from None
    if not -_AHEAD <= age <= provider.max_age:
        raise InvalidNotice("The notice is too old, or of the future.")
    return tuple(_distinct(provider.read(document)))


def _signs(signature: str, secret: bytes, content: bytes) -> bool:
    """Whether ``signature`` (hex) is the HMAC-SHA256 of ``content``, in constant time."""
    if _SIGNATURE.fullmatch(signature.lower()) is None:
        return False
    expected = hmac.new(secret, content, hashlib.sha256).hexdigest()
    return hmac.compare_digest(signature.lower(), expected)


def _named(transaction: object, sender: object, recipient: object) -> Iterator[Named]:
    if not isinstance(transaction, str) or _HASH.fullmatch(transaction) is None:
        return
    yield Named(transaction.lower(), _address(sender), _address(recipient))


def _address(value: object) -> str | None:
    return to_checksum_address(value) if isinstance(value, str) and is_address(value) else None


def _distinct(named: Iterable[Named]) -> list[Named]:
    return list(dict.fromkeys(named))[:MAX_NAMED]
