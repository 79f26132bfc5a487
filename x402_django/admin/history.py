"""The action log: who changed what, from what to what.

Django's admin writes down who changed an object, when, and in which fields. Of what decides about
money the values are written, too: that a price was changed says little.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Model

from x402_django.admin.base import ModelAdmin
from x402_django.admin.display import EMPTY

if TYPE_CHECKING:
    from django.forms import ModelForm
    from django.http import HttpRequest

#: Characters of a value that are written; a description may be long.
_LONGEST: Final = 80


class RecordsValues(ModelAdmin):  # type: ignore[type-arg]
    """A ModelAdmin: the history of its objects names the old and the new value of a field."""

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[dict[str, dict[str, list[str]]]]:
        """Django's, with values."""
        message = super().construct_change_message(request, form, formsets, add)
        told = [] if add else [_change(form, name) for name in form.changed_data]
        for entry in message:
            if told and "changed" in entry and "name" not in entry["changed"]:
                entry["changed"]["fields"] = told
        return message


def _change(form: ModelForm[Any], name: str) -> str:
    """``price in US dollars: 0.01 → 0.05``."""
    label = str(form.fields[name].label or name)
    before, after = form.initial.get(name), form.cleaned_data.get(name)
    return f"{label}: {_shown(before)} → {_shown(after)}"


def _shown(value: object) -> str:
    if value is None or value == "":
        return EMPTY
    if isinstance(value, Model | str) or not isinstance(value, Iterable):
        text = str(value)
    else:
        text = ", ".join(sorted(str(one) for one in value)) or EMPTY
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
