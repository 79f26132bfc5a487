"""Merchants: their details, who works for them, and which pages are theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from x402_django.admin.base import LabelledInline
from x402_django.admin.history import RecordsValues
from x402_django.admin.scoping import MerchantScoped, merchants_of
from x402_django.models import Membership, Merchant, MerchantPage

if TYPE_CHECKING:
    from django.http import HttpRequest


class MembershipInline(LabelledInline):
    """Who sees what is this merchant's."""

    model = Membership
    raw_id_fields = ("user",)
    extra = 1


class MerchantPageInline(LabelledInline):
    """What the merchant may set prices for."""

    model = MerchantPage
    extra = 1


@admin.register(Merchant)
class MerchantAdmin(MerchantScoped, RecordsValues):
    """Members edit their own merchant's details; who is a member, who sees all merchants says."""

    merchant_path = "pk"
    list_display = ("name", "tax_id", "created_at")
    search_fields = ("name", "tax_id")
    fieldsets = (
        (None, {"fields": ("name",)}),
        (_("The business"), {"fields": ("address", "tax_id", "note")}),
    )
    inlines = (MembershipInline, MerchantPageInline)

    def get_list_filter(self, request: HttpRequest) -> Any:
        return ()

    def get_inlines(self, request: HttpRequest, obj: Merchant | None) -> Any:
        """Only for those who see every merchant: a member could take in others, or take pages."""
        return self.inlines if merchants_of(request) is None else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return merchants_of(request) is None and super().has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Merchant | None = None) -> bool:
        """Never the site's own; nor one that has sold something, which the ledger refers to."""
        if merchants_of(request) is not None or (obj is not None and obj.is_default):
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Without "delete selected", which does not ask about each row."""
        actions = super().get_actions(request, *args, **kwargs)
        actions.pop("delete_selected", None)
        return actions
