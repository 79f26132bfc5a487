"""Filters by query parameters. What is not understood is an error: a filter that goes by
unnoticed would show rows that nobody asked for, and somebody would add them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend

from x402_django.protocol.assets import canonical_address
from x402_django.protocol.networks import is_caip2

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request
    from rest_framework.views import APIView

_SOLANA = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
_EVM = "eip155:1"


@dataclass(frozen=True, slots=True)
class Filter:
    """A query parameter: the lookup that it becomes, and how its text is read.

    ``read`` raises ValueError, with a sentence, for what it does not take.
    """

    lookup: str
    read: Callable[[str], Any]
    description: str
    schema: Mapping[str, Any]


class StrictFilters(BaseFilterBackend):
    """By the ``filters`` of a view; every other parameter but the paginator's is refused."""

    def filter_queryset(
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> QuerySet[Any]:
        """Raises ValidationError (400) for a parameter that is unknown, doubled or unreadable."""
        filters: Mapping[str, Filter] = view.filters  # type: ignore[attr-defined]
        paging = view.paginator.parameters  # type: ignore[attr-defined]
        for name, given in request.query_params.lists():
            if name in paging:
                continue
            if name not in filters:
                known = ", ".join([*filters, *paging])
                raise ValidationError(
                    {name: f"There is no such filter. There are: {known}."}, code="unknown_filter"
                )
            if len(given) > 1:
                raise ValidationError({name: "Give this filter once."}, code="doubled_filter")
            try:
                value = filters[name].read(given[0])
            except ValueError as error:
                raise ValidationError({name: str(error)}, code="invalid_filter") from error
            queryset = queryset.filter(**{filters[name].lookup: value})
        return queryset


def choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"Choose one of: {', '.join(choices)}.")
        return text

    return read


def moment(text: str) -> Any:
    """A date and time, ISO 8601; without an offset in the site's time zone."""
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise ValueError("Write a date and time, such as 2026-01-31T00:00:00Z.")
    return timezone.make_aware(found) if timezone.is_naive(found) else found


def address(text: str) -> str:
    """An address in any letter case where that does not count."""
    found = canonical_address(_EVM, text) or canonical_address(_SOLANA, text)
    if found is None:
        raise ValueError("Write an address: 0x and 40 hexadecimal digits, or base58 on Solana.")
    return found


def network(text: str) -> str:
    if not is_caip2(text):
        raise ValueError("Write a CAIP-2 name, such as eip155:8453.")
    return text


def number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError("Write a number.")
    return int(text)


def transaction(text: str) -> str:
    if not 0 < len(text) <= 90:
        raise ValueError("Write a transaction's hash.")
    return text.lower() if text.startswith("0x") else text


_TIME = {"type": "string", "format": "date-time"}


def since(lookup: str) -> Filter:
    return Filter(f"{lookup}__gte", moment, "From this moment on.", _TIME)


def before(lookup: str) -> Filter:
    return Filter(f"{lookup}__lt", moment, "Before this moment.", _TIME)


NETWORK = Filter("network", network, "CAIP-2 name of the network.", {"type": "string"})
PAYER = Filter("payer", address, "Address of the payer.", {"type": "string"})
TRANSACTION = Filter("transaction", transaction, "Hash of the transaction.", {"type": "string"})
MERCHANT = Filter("merchant", number, "Number of the merchant.", {"type": "integer"})
