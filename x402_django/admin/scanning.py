"""How far the chains were read, and who reads them: to look at, never to edit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import OuterRef, Subquery
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from x402_django import clock
from x402_django.admin import display
from x402_django.admin.change_list import COUNT_LIMIT
from x402_django.admin.filters import NetworkFilter
from x402_django.admin.read_only import LedgerAdmin
from x402_django.admin.scoping import SiteOwned
from x402_django.admin.search import search_scanned_blocks
from x402_django.conf import x402
from x402_django.models import Alert, ChainScan, Payment, PeriodicRun, ScannedBlock
from x402_django.payments.periodic import TASKS, interval, is_overdue

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


@admin.register(ChainScan)
class ChainScanAdmin(SiteOwned, LedgerAdmin):
    """One row per network: whether confirmations come in."""

    list_display = (
        "network_shown",
        "condition_badge",
        "read_to",
        "head",
        "behind",
        "finished_at",
    )
    fields = (
        "network_shown",
        "condition_badge",
        "read_to",
        "head",
        "behind",
        "finished_at",
        "held_until",
        "waiting_shown",
        "oldest_waiting",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        blocks = ScannedBlock.objects.filter(network=OuterRef("network")).order_by("-number")
        newest = Subquery(blocks.values("number")[:1])
        scans: QuerySet[Any] = super().get_queryset(request).annotate(newest=newest)
        return scans

    @admin.display(description=_("network"))
    def network_shown(self, scan: ChainScan) -> str:
        return display.network_label(scan.network)

    @admin.display(description=_("condition"))
    def condition_badge(self, scan: ChainScan) -> SafeString:
        """Whether runs come to their end, in a word."""
        configured = x402.networks.get(scan.network)
        now = clock.now()
        if configured is None or not configured.has_rpc:
            return _badge(_now("not read: the settings name no node"))
        if scan.holder and scan.held_until is not None and scan.held_until >= now:
            return _badge(_now("being read"))
        if is_overdue(scan.finished_at, timedelta(seconds=x402.confirmation_interval)):
            return _badge(_now("overdue: no run has come to its end lately"), "attention")
        return _badge(_now("up to date"))

    @admin.display(description=_("read up to block"))
    def read_to(self, scan: Any) -> str:
        return display.EMPTY if scan.newest is None else str(scan.newest)

    @admin.display(description=_("blocks to read"))
    def behind(self, scan: Any) -> str:
        """Of those that the last run saw."""
        if scan.newest is None or scan.head is None:
            return display.EMPTY
        return str(max(scan.head - scan.newest, 0))

    @admin.display(description=_("payments that wait for confirmation"))
    def waiting_shown(self, scan: ChainScan) -> str:
        count = _settled(scan).values("pk")[: COUNT_LIMIT + 1].count()
        return _now("more than %d") % COUNT_LIMIT if count > COUNT_LIMIT else str(count)

    @admin.display(description=_("the oldest of them is in block"))
    def oldest_waiting(self, scan: ChainScan) -> str:
        rows = _settled(scan).filter(block_number__isnull=False).order_by("block_number")
        number = rows.values_list("block_number", flat=True).first()
        return display.EMPTY if number is None else str(number)


@admin.register(ScannedBlock)
class ScannedBlockAdmin(SiteOwned, LedgerAdmin):
    """The blocks that are remembered by their hash, to notice a reorganisation by."""

    list_display = ("number", "hash", "network_shown")
    list_filter = (NetworkFilter,)
    search_fields = ("number",)
    search_help_text = _("The number of a block, or its hash.")
    search = staticmethod(search_scanned_blocks)
    fields = ("network_shown", "number", "hash")

    @admin.display(description=_("network"))
    def network_shown(self, block: ScannedBlock) -> str:
        return display.network_label(block.network)


@admin.register(PeriodicRun)
class PeriodicRunAdmin(SiteOwned, LedgerAdmin):
    """Whether workers, beat and broker are alive: when each periodic task last came to its end."""

    list_display = ("name", "condition_badge", "started_at", "finished_at", "failed_at")
    fields = ("name", "condition_badge", "started_at", "finished_at", "failed_at", "failure")

    @admin.display(description=_("condition"))
    def condition_badge(self, run: PeriodicRun) -> SafeString:
        """Whether it runs as often as it should, in a word."""
        if run.name not in TASKS:
            return _badge(_now("not one of this version’s"))
        if is_overdue(run.finished_at, interval(run.name)):
            return _badge(_now("overdue: are a worker, beat and the broker running?"), "attention")
        return _badge(_now("running"))


def _settled(scan: ChainScan) -> QuerySet[Payment]:
    return Payment.objects.filter(network=scan.network, state=Payment.State.SETTLED).order_by()


def _badge(text: str, kind: str = "") -> SafeString:
    return format_html(
        '<span class="x402-badge{}">{}</span>', f" x402-badge-{kind}" if kind else "", text
    )


@admin.register(Alert)
class AlertAdmin(SiteOwned, LedgerAdmin):
    """What somebody was told of, and when it was well again."""

    list_display = ("name", "sentence", "opened_at", "told_at", "closed_at")
    fields = list_display
