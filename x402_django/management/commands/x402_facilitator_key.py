"""Make, rotate, revoke and list API keys of the facilitator service."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from x402_django.exceptions import InvalidApiKey
from x402_django.models import FacilitatorKey
from x402_django.payments.service import keys


class Command(BaseCommand):
    """``manage.py x402_facilitator_key "Weather Ltd"``"""

    help = (
        "Make an API key of the facilitator service and print it: standard output has the key "
        "alone, once. With --rotate, --revoke or --list, do that instead."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="Whose key it is.")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--rotate", action="store_true", help="Give a key a new secret.")
        what.add_argument("--revoke", action="store_true", help="Refuse a key from now on.")
        what.add_argument("--list", action="store_true", help="List the keys as JSON, one a line.")
        parser.add_argument("--requests-per-minute", type=_limit, help="0: no limit. Default: 600.")
        parser.add_argument("--gas-per-hour", type=_limit, help="0: no limit. Default: 20,000,000.")
        parser.add_argument(
            "--succeeds-once",
            action="store_true",
            help="Report a payment as settled to one request; for servers without a ledger.",
        )
        parser.add_argument(
            "--origin",
            action="append",
            default=[],
            help="List what is paid for there, e.g. https://api.example. May be repeated.",
        )
        parser.add_argument(
            "--grace-hours",
            type=float,
            default=keys.GRACE.total_seconds() / 3600,
            help="With --rotate: how long the old secret stays good. Default: 24.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            for key in FacilitatorKey.objects.all():
                self.stdout.write(json.dumps(_facts(key)))
            return
        if not options["name"]:
            raise CommandError("Say whose key it is.")
        if options["rotate"] or options["revoke"]:
            self._change(options)
        else:
            self._issue(options)

    def _issue(self, options: dict[str, Any]) -> None:
        limits: dict[str, Any] = {
            "succeeds_once": options["succeeds_once"],
            "origins": options["origin"],
        }
        for name in ("requests_per_minute", "gas_per_hour"):
            if options[name] is not None:
                limits[name] = options[name] or None
        try:
            key, secret = keys.issue(options["name"], **limits)
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        self.stderr.write(f"The key of {key.name}. It cannot be shown again:")
        self.stdout.write(secret)

    def _change(self, options: dict[str, Any]) -> None:
        key = FacilitatorKey.objects.filter(name=options["name"]).first()
        if key is None:
            raise CommandError(f"There is no key named {options['name']!r}. See --list.")
        if options["revoke"]:
            keys.revoke(key)
            self.stderr.write(f"The key of {key.name} is revoked.")
            return
        try:
            secret = keys.rotate(key, grace=timedelta(hours=options["grace_hours"]))
        except InvalidApiKey as error:
            raise CommandError(str(error)) from error
        self.stderr.write(f"The new key of {key.name}. It cannot be shown again:")
        self.stdout.write(secret)


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _facts(key: FacilitatorKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "begins_with": key.prefix,
        "revoked": key.revoked_at is not None,
        "requests_per_minute": key.requests_per_minute,
        "gas_per_hour": key.gas_per_hour,
        "succeeds_once": key.succeeds_once,
        "origins": key.origins,
    }
