"""What our admin pages derive from: Django's own, or those of django-unfold where that is on.

Its looks come by its templates; only the widgets of forms are by its classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline
elif apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin, TabularInline
else:
    from django.contrib.admin import ModelAdmin, TabularInline

__all__ = ["ModelAdmin", "TabularInline"]
