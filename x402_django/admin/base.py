"""What our admin pages derive from: Django's own, or those of django-unfold where that is on.

Its looks come by its templates; only the widgets of forms are by its classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps

if TYPE_CHECKING:
    from django import forms
    from django.contrib.admin import ModelAdmin, TabularInline
    from django.db.models import Field
    from django.http import HttpRequest
elif apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin, TabularInline
else:
    from django.contrib.admin import ModelAdmin, TabularInline

__all__ = ["LabelledInline", "ModelAdmin", "TabularInline", "name_in_table"]


def name_in_table(field: forms.Field | None) -> forms.Field | None:
    """Give the input its name: in a table, Django has that in the head of the column alone."""
    if field is not None and field.label:
        field.widget.attrs.setdefault("aria-label", str(field.label))
    return field


class LabelledInline(TabularInline):  # type: ignore[type-arg]
    """A table of inputs each of which says its name to a screen reader."""

    def formfield_for_dbfield(
        self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        return name_in_table(super().formfield_for_dbfield(db_field, request, **kwargs))
