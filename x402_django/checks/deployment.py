"""What is fine at home and hurts in production, mostly reported only where ``DEBUG`` is off."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.urls import get_resolver

from x402_django.checks.raw import TAG, entries, is_list, path_of, value

#: 32 bytes of hex, which among options can hardly be anything but a private key.
_KEY: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}")
#: Options whose very name says that the value is the key.
_KEY_NAMES: Final = frozenset({"KEY", "PRIVATE_KEY", "MNEMONIC"})
#: Celery brokers that one process, or one machine, has to itself.
_LOCAL_BROKERS: Final = ("memory://", "filesystem://")


@register(TAG, Tags.security)
def check_secrets(**kwargs: Any) -> list[CheckMessage]:
    """E009: a wallet's key in the settings of a public site. The key is not quoted."""
    if settings.DEBUG:
        return []
    return [
        Error(
            f"{path_of('FACILITATORS', alias, *where)} holds a private key.",
            hint=(
                "Settings end in version control, error reports and backups. Put the key into an "
                "environment variable (KEY_ENV) or an encrypted keystore file (KEYSTORE), and "
                "move the funds: a key that was in a file is no secret."
            ),
            id="x402_django.E009",
        )
        for alias, entry in entries("FACILITATORS").items()
        for where in _keys_in(entry.get("OPTIONS"), ("OPTIONS",))
    ]


def _keys_in(option: object, where: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where in the options a key stands."""
    if isinstance(option, Mapping):
        for name, inner in option.items():
            yield from _keys_in(inner, (*where, str(name)))
    elif is_list(option):
        for position, inner in enumerate(option):
            yield from _keys_in(inner, (*where, str(position)))
    elif isinstance(option, str) and _is_key(option.strip(), where[-1]):
        yield where


def _is_key(text: str, name: str) -> bool:
    return bool(text) and (name in _KEY_NAMES or _KEY.fullmatch(text) is not None)


@register(TAG, Tags.security)
def check_base_url(**kwargs: Any) -> list[CheckMessage]:
    """W001, W008: the origin that payers are told."""
    if settings.DEBUG:
        return []
    base_url = value("BASE_URL")
    if not base_url and "*" in settings.ALLOWED_HOSTS:
        return [
            Warning(
                "ALLOWED_HOSTS has '*' and X402['BASE_URL'] is not set, so the resource that a "
                "payer is told, and its receipt, take their host from a header anybody can forge.",
                hint="Set X402['BASE_URL'], for example 'https://shop.example', or list the hosts.",
                id="x402_django.W001",
            )
        ]
    if isinstance(base_url, str) and base_url.lower().startswith("http://"):
        return [
            Warning(
                "X402['BASE_URL'] is not https: payments can be read and changed on the way.",
                hint="Serve the site over TLS and write https://.",
                id="x402_django.W008",
            )
        ]
    return []


@register(TAG)
def check_celery(**kwargs: Any) -> list[CheckMessage]:
    """W002, W005: payments are confirmed by Celery tasks; these would not run where they should."""
    if settings.DEBUG:
        return []
    broker, eager = _celery_settings()
    messages: list[CheckMessage] = []
    if broker.startswith(_LOCAL_BROKERS):
        scheme = broker.partition(":")[0]
        messages.append(
            Warning(
                f"Celery's broker is {scheme}://, which processes on other machines (or, for "
                "memory://, any other process) do not see.",
                hint="Use Redis or RabbitMQ, or run the x402_* commands from a scheduler instead.",
                id="x402_django.W002",
            )
        )
    if eager:
        messages.append(
            Warning(
                "Celery's task_always_eager is on, so tasks run inside requests and no beat "
                "confirms payments.",
                hint="Turn it off and run a worker with beat.",
                id="x402_django.W005",
            )
        )
    return messages


def _celery_settings() -> tuple[str, bool]:
    """Broker and eagerness: of the site's Celery app if it has one, else of its settings."""
    celery = sys.modules.get("celery")  # a site that uses Celery has loaded it by now
    if celery is not None:
        configured = celery.current_app.conf
        broker, eager = configured.broker_url, configured.task_always_eager
        if broker or eager:
            return _first(broker), bool(eager)
    return (
        _first(getattr(settings, "CELERY_BROKER_URL", "")),
        bool(getattr(settings, "CELERY_TASK_ALWAYS_EAGER", False)),
    )


def _first(broker: object) -> str:
    """The first of a broker URL or a list of them."""
    if is_list(broker) and broker:
        return str(broker[0])
    return str(broker or "")


@register(TAG)
def check_ledger_database(**kwargs: Any) -> list[CheckMessage]:
    """W003: SQLite that fails instead of waiting when two requests are paid at once."""
    if settings.DEBUG:
        return []
    from x402_django.models import Payment

    alias = router.db_for_write(Payment)
    database = connections.settings[alias]
    options = database.get("OPTIONS") or {}
    is_sqlite = database["ENGINE"] == "django.db.backends.sqlite3"
    if not is_sqlite or str(options.get("transaction_mode", "")).upper() == "IMMEDIATE":
        return []
    return [
        Warning(
            f"The ledger is in SQLite ({alias!r}) with deferred transactions: two paid requests "
            "at once can fail with “database is locked”.",
            hint=(
                f"Set DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE', "
                "'timeout': 20}. For more than one machine use PostgreSQL."
            ),
            id="x402_django.W003",
        )
    ]


@register(TAG, Tags.urls)
def check_status_url(**kwargs: Any) -> list[CheckMessage]:
    """W007: payers of an unknown outcome are told where to ask; the page must exist."""
    if not getattr(settings, "ROOT_URLCONF", None) or "x402" in get_resolver().namespace_dict:
        return []
    return [
        Warning(
            "x402_django.urls is not included, so a payer whose settlement has an unknown outcome "
            "is given no address to ask what became of it.",
            hint='Add path("x402/", include("x402_django.urls")) to the root URLconf.',
            id="x402_django.W007",
        )
    ]


@register(TAG)
def check_time_zone(**kwargs: Any) -> list[CheckMessage]:
    """W009: times without a zone are ambiguous for an hour each autumn."""
    if settings.USE_TZ:
        return []
    return [
        Warning(
            "USE_TZ is off: the ledger's times are local, and one hour a year happens twice.",
            hint="Set USE_TZ = True.",
            id="x402_django.W009",
        )
    ]
