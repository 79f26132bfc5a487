"""Receipts: to look at and to print."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from x402_django.admin import display
from x402_django.admin.columns import MoneyColumns
from x402_django.admin.exporting import Exports
from x402_django.admin.filters import NetworkFilter
from x402_django.admin.read_only import LedgerAdmin
from x402_django.admin.scoping import MerchantScoped
from x402_django.admin.search import search_receipts
from x402_django.models import Receipt
from x402_django.receipts.numbers import number_of


@admin.register(Receipt)
class ReceiptAdmin(Exports, MerchantScoped, MoneyColumns, LedgerAdmin):
    """Receipts; the page of one is made to be printed."""

    change_list_template = "admin/x402_django/receipt_list.html"
    list_display = (
        "number_shown",
        "reference_short",
        "issued_at",
        "amount_shown",
        "usd_shown",
        "payer_short",
        "resource_short",
        "network_short",
    )
    list_filter = (NetworkFilter,)
    list_select_related = ("numbered",)
    date_hierarchy = "issued_at"
    sortable_by = ("issued_at",)
    search_fields = ("reference",)
    search_help_text = _(
        "The receipt's number or reference, the payer's address (whole, or its beginning as "
        "shown) or a transaction hash."
    )
    search = staticmethod(search_receipts)
    fields = (
        "number_shown",
        "reference",
        "document_links",
        "issued_at",
        "amount_shown",
        "usd_shown",
        "description",
        "resource_url",
        "payer_link",
        "pay_to_link",
        "network_shown",
        "token_link",
        "transaction_shown",
        "payment_link",
    )

    @staticmethod
    def totalled(queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of a list that are summed above it: all of them."""
        return queryset

    @admin.display(description=_("number"))
    def number_shown(self, receipt: Receipt) -> str:
        """In the list, what was given already; the task gives the rest."""
        numbered = getattr(receipt, "numbered", None)
        return str(numbered) if numbered is not None else display.EMPTY

    @admin.display(description=_("document"))
    def document_links(self, receipt: Receipt) -> SafeString | str:
        return display.document_links(receipt)

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """With its number, which is given now if it has none."""
        receipt = super().get_object(request, object_id, from_field)
        if receipt is not None and getattr(receipt, "numbered", None) is None:
            number_of(receipt)
            receipt.refresh_from_db()
        return receipt

    @admin.display(description=_("receipt"))
    def reference_short(self, receipt: Receipt) -> str:
        return receipt.reference[:12]

    @admin.display(description=_("payment"))
    def payment_link(self, receipt: Receipt) -> SafeString | str:
        return display.payment_link(receipt.payment_id)
