"""Whose rows somebody sees here: those of the merchants they are members of (threat 26).

A list, a form, a page, a search, a total and an action all begin with ``get_queryset``, so that is
where it is decided. What belongs to the site and to no merchant (wallets, the outbox, the API keys
of the facilitator service) is for those who see every merchant. On a site with a single merchant
nobody is kept from anything, and nothing speaks of merchants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from x402_django.constants import DEFAULT_MERCHANT
from x402_django.models import Merchant
from x402_django.models.merchant import merchants_seen_by

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest

_SEEN: Final = "_x402_merchants_seen"


def merchants_of(request: HttpRequest) -> frozenset[int] | None:
    """``merchants_seen_by`` the request's user, asked once per request; None: everybody's."""
    if not hasattr(request, _SEEN):
        setattr(request, _SEEN, merchants_seen_by(request.user))
    seen: frozenset[int] | None = getattr(request, _SEEN)
    return seen


class MerchantFilter(admin.SimpleListFilter):
    """By merchant, of those that somebody sees."""

    title = _("merchant")
    parameter_name = "merchant"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self._path: str = model_admin.merchant_path

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return merchant_choices(request)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        known = {choice for choice, _name in self.lookup_choices}
        return queryset.filter(**{self._path: value}) if value in known else queryset


class MerchantScoped:
    """A ModelAdmin of rows that belong to a merchant. First among the bases.

    ``merchant_path`` is the lookup that leads from a row to its merchant.
    """

    merchant_path = "merchant"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]
        seen = merchants_of(request)
        return rows if seen is None else rows.filter(**{f"{self.merchant_path}__in": seen})

    def get_list_filter(self, request: HttpRequest) -> Any:
        """With the merchants, for those who see several."""
        filters = super().get_list_filter(request)  # type: ignore[misc]
        return [*filters, MerchantFilter] if are_several(request) else filters


class MerchantOwned(MerchantScoped):
    """Of rows that are edited: theirs alone can be chosen as the merchant and in relations."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name != "merchant":
            return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]
        kwargs["queryset"] = _choices(request)
        kwargs["required"] = False
        if not are_several(request):
            kwargs["widget"] = forms.HiddenInput
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if db_field.name == "merchant" and field is not None:
            # To choose, and not to make or delete one beside it.
            for may in ("add", "change", "delete", "view"):
                setattr(field.widget, f"can_{may}_related", False)
        return field

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        seen = merchants_of(request)
        if seen is not None:
            rows = db_field.remote_field.model._default_manager
            kwargs["queryset"] = rows.filter(merchant__in=seen)
        return super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[misc]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)  # type: ignore[misc]
        first = _choices(request).order_by("pk").first()
        return {"merchant": first.pk if first else None, **initial}


class MerchantFormMixin:
    """A form of such a row: its merchant is one of those that may be chosen."""

    def clean_merchant(self) -> Merchant:
        """The chosen one; where nothing was chosen, the row's own or the only one there is."""
        form: Any = self
        chosen: Merchant | None = form.cleaned_data["merchant"]
        if chosen is not None:
            return chosen
        offered = form.fields["merchant"].queryset
        if form.instance.pk is not None:
            return offered.get(pk=form.instance.merchant_id)  # type: ignore[no-any-return]
        found = list(offered.order_by("pk")[:2])
        if len(found) == 1 or (found and found[0].pk == DEFAULT_MERCHANT):
            return found[0]  # type: ignore[no-any-return]
        if not found:
            raise ValidationError(
                _("You are a member of no merchant; ask who administers this site."),
                code="no_merchant",
            )
        raise ValidationError(_("Choose whose this is."), code="required")


class SiteOwned:
    """A ModelAdmin of rows that belong to the site and to no merchant. First among the bases."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Not for members of one merchant among several: others' payments are in it."""
        return merchants_of(request) is None and super().has_view_permission(request, obj)  # type: ignore[misc]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return merchants_of(request) is None and super().has_add_permission(request, *args)  # type: ignore[misc]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return merchants_of(request) is None and super().has_change_permission(request, obj)  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return merchants_of(request) is None and super().has_delete_permission(request, obj)  # type: ignore[misc]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return merchants_of(request) is None and super().has_module_permission(request)  # type: ignore[misc]


def _choices(request: HttpRequest) -> QuerySet[Merchant]:
    seen = merchants_of(request)
    return Merchant.objects.all() if seen is None else Merchant.objects.filter(pk__in=seen)


def merchant_choices(request: HttpRequest) -> list[tuple[str, str]]:
    """Keys and names of the merchants that the request's user sees."""
    return [(str(pk), name) for pk, name in _choices(request).values_list("pk", "name")]


def are_several(request: HttpRequest) -> bool:
    """Whether the request's user sees more than one merchant; asked once per request."""
    name = "_x402_several_merchants"
    if not hasattr(request, name):
        setattr(request, name, len(_choices(request).order_by()[:2]) > 1)
    several: bool = getattr(request, name)
    return several
