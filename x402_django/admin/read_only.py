"""Rows that nobody edits here: the ledger is written by ``payments/`` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.admin.options import ShowFacets
from django.contrib.admin.utils import flatten_fieldsets

from x402_django.admin.base import ModelAdmin
from x402_django.admin.change_list import BoundedPaginator, LedgerChangeList
from x402_django.admin.display import EMPTY

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest


class NoWrites:
    """Adding, changing and deleting are refused by permission, to superusers as well."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class LedgerAdmin(NoWrites, ModelAdmin):  # type: ignore[type-arg]
    """A read-only list that costs the same with twenty rows and with a million.

    Nothing counts without a bound, nothing lists the distinct values of a column, only indexed
    columns can be sorted by, and search knows which index answers which question.
    """

    actions = None
    empty_value_display = EMPTY
    list_per_page = 50
    list_max_show_all = 200
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = BoundedPaginator
    #: Columns a visitor may sort by; each has an index.
    sortable_by: ClassVar[list[str] | tuple[str, ...] | None] = ()
    #: Large columns that the list does not need.
    deferred: tuple[str, ...] = ()

    class Media:
        css = {"all": ["x402_django/admin/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LedgerChangeList]:
        return LedgerChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (self.search(queryset, term) if term else queryset), False

    @staticmethod
    def search(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Narrow ``queryset`` to what was searched for; ``search_fields`` shows the box."""
        return queryset

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return flatten_fieldsets(self.fieldsets or [(None, {"fields": self.fields or ()})])

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer(*self.deferred)
