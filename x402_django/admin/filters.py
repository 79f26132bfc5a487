"""Filters of the ledger's lists. Their choices come from settings and code, never from rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib.admin import SimpleListFilter
from django.utils.translation import gettext_lazy as _

from x402_django.admin.display import network_label
from x402_django.conf import x402
from x402_django.constants import FLOW_DEFERRED
from x402_django.models import Payment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.contrib.admin import ModelAdmin
    from django.db.models import QuerySet
    from django.http import HttpRequest


class _ColumnFilter(SimpleListFilter):
    """An equality filter on the column named by ``parameter_name``."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else queryset.filter(**{str(self.parameter_name): value})

    def _with_current(self, choices: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """``choices``, and the value filtered by, should it be gone from the settings."""
        value = self.value()
        known = {choice for choice, _label in choices}
        return [*choices, *([(value, value)] if value and value not in known else [])]


class NetworkFilter(_ColumnFilter):
    """By network, of those configured."""

    title = _("network")
    parameter_name = "network"

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return self._with_current([(name, network_label(name)) for name in x402.networks])

    def has_output(self) -> bool:
        return len(self.lookup_choices) > 1 or self.value() is not None


class FacilitatorFilter(_ColumnFilter):
    """By who settled, of those configured."""

    title = _("facilitator")
    parameter_name = "facilitator"

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        return self._with_current([(alias, alias) for alias in x402.facilitators])

    def has_output(self) -> bool:
        return len(self.lookup_choices) > 1 or self.value() is not None


class AttentionFilter(SimpleListFilter):
    """What somebody should look at."""

    title = _("attention")
    parameter_name = "attention"

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Iterable[tuple[str, Any]]:
        return [
            ("owed", _("Owed to the payer: paid, not delivered")),
            ("unknown", _("Outcome unknown")),
            ("reversed", _("Reversed by the chain")),
            ("unsettled", _("Owed by the payer: delivered, to be settled")),
            ("default", _("In default: delivered, never paid")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "owed":
                return queryset.filter(
                    state__in=(Payment.State.SETTLED, Payment.State.FINAL),
                    delivered_at__isnull=True,
                    refunding_at__isnull=True,
                )
            case "unknown":
                return queryset.filter(
                    state=Payment.State.SETTLING, outcome_unknown_at__isnull=False
                )
            case "reversed":
                return queryset.filter(state=Payment.State.REVERSED)
            case "unsettled":
                return queryset.filter(
                    flow=FLOW_DEFERRED,
                    state__in=(
                        Payment.State.VERIFIED,
                        Payment.State.SETTLING,
                        Payment.State.REVERSED,
                    ),
                )
            case "default":
                return queryset.filter(
                    flow=FLOW_DEFERRED,
                    state__in=(Payment.State.FAILED, Payment.State.EXPIRED),
                    delivered_at__isnull=False,
                )
            case _other:
                return queryset
