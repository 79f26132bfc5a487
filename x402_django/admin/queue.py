"""Payments that wait for a transaction, and who sends them: to look at, never to edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from x402_django import clock
from x402_django.admin import display
from x402_django.admin.change_list import COUNT_LIMIT
from x402_django.admin.filters import FacilitatorFilter, NetworkFilter
from x402_django.admin.read_only import LedgerAdmin
from x402_django.admin.scoping import SiteOwned
from x402_django.admin.search import search_chain_items
from x402_django.models import ChainTransactionItem, SettlementLane

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


@admin.register(SettlementLane)
class SettlementLaneAdmin(SiteOwned, LedgerAdmin):
    """Who settles now, and how many wait."""

    list_display = ("facilitator", "network_shown", "leader", "waiting_shown", "waiting_since")
    fields = (*list_display, "held_until")

    @admin.display(description=_("network"))
    def network_shown(self, lane: SettlementLane) -> str:
        return display.network_label(lane.network)

    @admin.display(description=_("led by"))
    def leader(self, lane: SettlementLane) -> str:
        """The process that holds the lane, unless its time is over."""
        return lane.holder if lane.holder and lane.held_until >= clock.now() else _now("nobody")

    @admin.display(description=_("waiting payments"))
    def waiting_shown(self, lane: SettlementLane) -> str:
        count = _waiting(lane).values("pk")[: COUNT_LIMIT + 1].count()
        return _now("more than %d") % COUNT_LIMIT if count > COUNT_LIMIT else str(count)

    @admin.display(description=_("the first of them since"))
    def waiting_since(self, lane: SettlementLane) -> str:
        since = _waiting(lane).order_by("pk").values_list("created_at", flat=True).first()
        return display.short_moment(since)


@admin.register(ChainTransactionItem)
class ChainTransactionItemAdmin(SiteOwned, LedgerAdmin):
    """The place of each payment in the outbox."""

    list_display = (
        "payment_id_shown",
        "status",
        "transaction_short",
        "position_shown",
        "created_at",
        "facilitator",
        "network_shown",
    )
    list_filter = ("status", NetworkFilter, FacilitatorFilter)
    list_select_related = ("payment", "chain_transaction")
    ordering = ("-pk",)
    search_fields = ("payment__public_id",)
    search_help_text = _("The payment's id, the payer's address, a transaction hash or a nonce.")
    search = staticmethod(search_chain_items)
    fields = (
        "payment_link",
        "status",
        "transaction_link",
        "position_shown",
        "created_at",
        "facilitator",
        "network_shown",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        columns = ("network", "facilitator", "status", "position", "created_at")
        items: QuerySet[Any] = super().get_queryset(request)
        return items.only(
            *columns, "payment__public_id", "payment__state", "chain_transaction__hash"
        )

    @admin.display(description=_("payment"))
    def payment_id_shown(self, item: ChainTransactionItem) -> str:
        return item.payment.public_id[:12]

    @admin.display(description=_("payment"))
    def payment_link(self, item: ChainTransactionItem) -> SafeString | str:
        return display.payment_link(item.payment_id)

    @admin.display(description=_("chain transaction"))
    def transaction_short(self, item: ChainTransactionItem) -> SafeString | str:
        row = item.chain_transaction
        return display.EMPTY if row is None else display.shorten(row.hash)

    @admin.display(description=_("chain transaction"))
    def transaction_link(self, item: ChainTransactionItem) -> SafeString | str:
        return display.object_link(item.chain_transaction)

    @admin.display(description=_("position"))
    def position_shown(self, item: ChainTransactionItem) -> str:
        return display.EMPTY if item.chain_transaction_id is None else str(item.position + 1)

    @admin.display(description=_("network"))
    def network_shown(self, item: ChainTransactionItem) -> str:
        return display.network_label(item.network)


def _waiting(lane: SettlementLane) -> QuerySet[ChainTransactionItem]:
    return ChainTransactionItem.objects.filter(
        network=lane.network,
        facilitator=lane.facilitator,
        status=ChainTransactionItem.Status.WAITING,
    ).order_by()
