"""``X402`` itself: unknown keys, wrong types, numbers out of range."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from x402_django.checks.raw import (
    TAG,
    asset_entries,
    entries,
    is_list,
    network_value,
    path_of,
    value,
)
from x402_django.conf import DEFAULTS, x402
from x402_django.conf_entries import ASSET_KEYS, NETWORK_DEFAULTS
from x402_django.constants import MAX_WITHDRAW_DELAY, MIN_WITHDRAW_DELAY
from x402_django.finality import parse_confirmations

_FACILITATOR_KEYS: Final = frozenset({"BACKEND", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class _Range:
    """What a number may be. ``above`` is exclusive, ``least`` and ``most`` are inclusive."""

    whole: bool = True
    least: int | None = None
    above: int | None = None
    most: int | None = None

    def holds(self, number: object) -> bool:
        """Whether ``number`` is of the type and in the range."""
        exact = _as_decimal(number)
        if exact is None or (self.whole and not isinstance(number, int)):
            return False
        return (
            (self.least is None or exact >= self.least)
            and (self.above is None or exact > self.above)
            and (self.most is None or exact <= self.most)
        )

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        bounds = [
            f"{words} {bound}"
            for words, bound in (
                ("of at least", self.least),
                ("greater than", self.above),
                ("of at most", self.most),
            )
            if bound is not None
        ]
        return f"{kind} {' and '.join(bounds)}"


_NUMBERS: Final = {
    "RULES_MAX_AGE": _Range(whole=False, least=0),
    "PRICE_GRACE": _Range(whole=False, least=0, most=86_400),
    "MAX_HEADER_BYTES": _Range(least=1024, most=1_048_576),
    "MAX_TIMEOUT_SECONDS": _Range(least=1),
    "SETTLEMENT_TIMEOUT": _Range(whole=False, above=0),
    "MINIMUM_PRICE": _Range(whole=False, above=0),
    "RESPONSE_STORE_MAX_BYTES": _Range(least=0),
    "RESPONSE_STORE_TTL": _Range(least=1),
    "CLAIM_TIMEOUT": _Range(least=1),
    "RETRY_AFTER": _Range(least=1),
    "CONFIRMATION_INTERVAL": _Range(whole=False, above=0),
    "DEFERRED_MAX_EXPOSURE_PER_PAYER": _Range(whole=False, least=0),
    "DEFERRED_MAX_EXPOSURE": _Range(whole=False, least=0),
    "DEFERRED_MIN_SETTLED": _Range(least=0),
    "FAILED_PAYER_MEMORY": _Range(least=0),
    "MAX_IN_FLIGHT_PER_PAYER": _Range(least=1),
    "MAX_IN_FLIGHT": _Range(least=1),
    "UPFRONT_ABOVE": _Range(whole=False, least=0),
    "REFUND_APPROVAL_ABOVE": _Range(whole=False, least=0),
    "SERVICE_MAX_BODY_BYTES": _Range(least=4096, most=1_048_576),
    "SERVICE_MAX_PARALLEL": _Range(least=1),
    "TRANSFER_PROOF_TIMEOUT": _Range(least=60),
    "CHALLENGE_COUNT_INTERVAL": _Range(whole=False, least=0),
    "CHANNEL_WITHDRAW_DELAY": _Range(least=MIN_WITHDRAW_DELAY, most=MAX_WITHDRAW_DELAY),
    "CHANNEL_CLAIM_AFTER": _Range(least=1),
}
#: Numbers that may be None.
_OPTIONAL: Final = frozenset(
    {
        "DEFERRED_MAX_EXPOSURE",
        "MAX_IN_FLIGHT_PER_PAYER",
        "MAX_IN_FLIGHT",
        "UPFRONT_ABOVE",
        "REFUND_APPROVAL_ABOVE",
        "CHALLENGE_COUNT_INTERVAL",
    }
)
_NETWORK_NUMBERS: Final = {
    "RPC_TIMEOUT": _Range(whole=False, above=0),
    "RPC_CHECK_INTERVAL": _Range(whole=False, least=0),
    "RPC_MAX_LAG": _Range(whole=False, above=0),
    "LOG_RANGE": _Range(least=1),
    "POLL_INTERVAL": _Range(whole=False, above=0),
    "BUMP_AFTER": _Range(whole=False, above=0),
    "MAX_FEE_GWEI": _Range(whole=False, above=0),
}
_NETWORK_TEXTS: Final = ("EXPLORER_URL", "NAME", "V1_NAME", "FACILITATOR")


@register(TAG)
def check_keys(**kwargs: Any) -> list[CheckMessage]:
    """E002: a key that nothing reads, most likely misspelt."""
    messages = [*_unknown_keys(x402.user, DEFAULTS, ())]
    for name, entry in entries("NETWORKS").items():
        messages += _unknown_keys(entry, NETWORK_DEFAULTS, ("NETWORKS", name))
        for token in asset_entries(entry):
            messages += _unknown_keys(token, ASSET_KEYS, ("NETWORKS", name, "ASSETS"))
    for alias, entry in entries("FACILITATORS").items():
        messages += _unknown_keys(entry, _FACILITATOR_KEYS, ("FACILITATORS", alias))
    return messages


def _unknown_keys(
    found: Mapping[Any, Any], known: Iterable[str], where: tuple[str, ...]
) -> Iterator[CheckMessage]:
    names = sorted(known)
    for key in found:
        if key not in names:
            close = difflib.get_close_matches(str(key).upper(), names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(names)}."
            yield Error(
                f"{path_of(*where)} has an unknown key {key!r}.", hint=hint, id="x402_django.E002"
            )


@register(TAG)
def check_shapes(**kwargs: Any) -> list[CheckMessage]:
    """E008: a dict, list or text where another type is needed."""
    setting = getattr(settings, "X402", None)
    if setting is None:
        return [_shape("settings.X402 is missing.", "Define it; the README has an example.")]
    if not isinstance(setting, Mapping):
        return [_shape("settings.X402 is not a dict.", "Write X402 = {…}.")]
    messages: list[CheckMessage] = []
    for key in ("NETWORKS", "FACILITATORS"):
        messages += _misshapen_entries(key)
    for name, entry in entries("NETWORKS").items():
        messages += _misshapen_network(name, entry)
    for alias, entry in entries("FACILITATORS").items():
        if not isinstance(entry.get("OPTIONS") or {}, Mapping):
            where = path_of("FACILITATORS", alias, "OPTIONS")
            messages.append(_shape(f"{where} is not a dict.", "Write {…}."))
    for key in ("PAY_TO", "BASE_URL"):
        if value(key) is not None and not isinstance(value(key), str):
            messages.append(_shape(f"{path_of(key)} is not a string.", "Write it in quotes."))
    return messages + _misshapen_base_url()


def _misshapen_base_url() -> list[CheckMessage]:
    base_url = value("BASE_URL")
    if not base_url or not isinstance(base_url, str):
        return []
    try:
        parts = urlsplit(base_url.rstrip("/"))
        is_origin = base_url.rstrip("/") == f"{parts.scheme}://{parts.netloc}" and parts.hostname
    except ValueError:
        is_origin = False
    if is_origin and parts.scheme in ("http", "https") and "@" not in parts.netloc:
        return []
    message = f"{path_of('BASE_URL')} is {base_url!r}, which is not an origin."
    return [_shape(message, "Write scheme and host alone, such as https://shop.example.")]


def _misshapen_entries(key: str) -> Iterator[CheckMessage]:
    section = value(key)
    if not isinstance(section, Mapping):
        yield _shape(f"{path_of(key)} is not a dict.", "Write a dict of dicts, as in DATABASES.")
        return
    well_formed = entries(key)
    for name in section:
        if name not in well_formed:
            yield _shape(f"X402[{key!r}][{name!r}] is not a dict.", "Write a name and {…}.")


def _misshapen_network(name: str, entry: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for key in ("RPC_URLS", "WALLET_RPC_URLS", "ASSETS"):
        if not is_list(network_value(entry, key)):
            where = path_of("NETWORKS", name, key)
            yield _shape(f"{where} is not a list.", "Write […], also for a single one.")
    for key in ("RPC_URLS", "WALLET_RPC_URLS"):
        urls = network_value(entry, key)
        for url in urls if is_list(urls) else ():
            if not isinstance(url, str) or not url.startswith(("http://", "https://")):
                # The URL itself may hold an access key, so it is not quoted.
                where = path_of("NETWORKS", name, key)
                yield _shape(f"{where} has an entry that is no URL.", "Write https://….")
    for key in _NETWORK_TEXTS:
        if not isinstance(network_value(entry, key), str):
            where = path_of("NETWORKS", name, key)
            yield _shape(f"{where} is not a string.", "Write it in quotes.")


def _shape(message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint, id="x402_django.E008")


@register(TAG)
def check_numbers(**kwargs: Any) -> list[CheckMessage]:
    """E010: a number that is none, or out of its range."""
    messages = [
        _number(path_of(key), value(key), allowed)
        for key, allowed in _NUMBERS.items()
        if value(key) is not None or key not in _OPTIONAL
    ]
    for name, entry in entries("NETWORKS").items():
        messages += [
            _number(path_of("NETWORKS", name, key), network_value(entry, key), allowed)
            for key, allowed in _NETWORK_NUMBERS.items()
            if network_value(entry, key) is not None or NETWORK_DEFAULTS[key] is not None
        ]
        messages.append(_confirmations(name, network_value(entry, "CONFIRMATIONS")))
    return [message for message in messages if message is not None]


def _confirmations(name: str, raw: object) -> CheckMessage | None:
    try:
        parse_confirmations(raw)
    except ValueError as error:
        where = path_of("NETWORKS", name, "CONFIRMATIONS")
        return Error(f"{where} is {raw!r}.", hint=str(error), id="x402_django.E010")
    return None


def _number(where: str, number: object, allowed: _Range) -> CheckMessage | None:
    if allowed.holds(number):
        return None
    return Error(f"{where} is {number!r}.", hint=f"Write {allowed}.", id="x402_django.E010")


def _as_decimal(number: object) -> Decimal | None:
    """Its exact value; None for what is no finite number. Text counts only as a Decimal would."""
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal | str):
        return None
    try:
        exact = Decimal(str(number))
    except InvalidOperation:
        return None
    return exact if exact.is_finite() else None


@register(TAG)
def check_timeouts(**kwargs: Any) -> list[CheckMessage]:
    """E014, E015, E019: times that make each other impossible."""
    timeout, longest, claim = (
        number if _NUMBERS[key].holds(number := value(key)) else None
        for key in ("SETTLEMENT_TIMEOUT", "MAX_TIMEOUT_SECONDS", "CLAIM_TIMEOUT")
    )
    messages: list[CheckMessage] = []
    if timeout is not None and longest is not None and float(timeout) >= longest:
        messages.append(
            Error(
                f"X402['SETTLEMENT_TIMEOUT'] ({timeout}) is not less than "
                f"X402['MAX_TIMEOUT_SECONDS'] ({longest}).",
                hint=(
                    "Payments live for MAX_TIMEOUT_SECONDS and must have SETTLEMENT_TIMEOUT left "
                    "when they arrive, so every payment would be refused. Raise the former."
                ),
                id="x402_django.E014",
            )
        )
    if timeout is not None and claim is not None and claim <= float(timeout):
        messages.append(
            Error(
                f"X402['CLAIM_TIMEOUT'] ({claim}) is not greater than "
                f"X402['SETTLEMENT_TIMEOUT'] ({timeout}).",
                hint=(
                    "A claim would be taken for dead while its request still waits for "
                    "settlement. Make it longer than your slowest view and the settlement."
                ),
                id="x402_django.E015",
            )
        )
    delay, claim_after = (
        number if _NUMBERS[key].holds(number := value(key)) else None
        for key in ("CHANNEL_WITHDRAW_DELAY", "CHANNEL_CLAIM_AFTER")
    )
    if delay is not None and claim_after is not None and 2 * claim_after > delay:
        messages.append(
            Error(
                f"X402['CHANNEL_CLAIM_AFTER'] ({claim_after}) is more than half of "
                f"X402['CHANNEL_WITHDRAW_DELAY'] ({delay}).",
                hint=(
                    "A payer could withdraw what was spent before it is claimed. Claim earlier, or "
                    "have withdrawals wait longer."
                ),
                id="x402_django.E019",
            )
        )
    return messages
