"""The site's own merchant, which ``migrate`` makes."""

from __future__ import annotations

from typing import Any

from django.apps.registry import Apps
from django.core.management.color import no_style
from django.db import connections, router
from django.utils.translation import gettext

from x402_django.constants import DEFAULT_MERCHANT


def make_default_merchant(*, using: str, apps: Apps, **kwargs: Any) -> None:
    """Make it where there is none: a receiver of ``post_migrate``, which also follows a flush."""
    try:
        merchant: Any = apps.get_model("x402_django", "Merchant")
    except LookupError:  # migrated back to before there were merchants
        return
    if not router.allow_migrate_model(using, merchant):
        return
    rows = merchant.objects.using(using)
    if rows.get_or_create(pk=DEFAULT_MERCHANT, defaults={"name": gettext("This site")})[1]:
        # A row with a chosen key does not move PostgreSQL's counter, which would give it again.
        connection = connections[using]
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), [merchant]):
                cursor.execute(statement)
