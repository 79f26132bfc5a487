"""What only rows can tell. Runs with ``check --database <alias>`` and before ``migrate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import DatabaseError, router

from x402_django.checks.raw import is_readable


@register(Tags.database)
def check_ways_of_being_paid(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W011: neither the settings nor a row say how to be paid, so paid views answer 503."""
    from x402_django.models import PaymentMethod
    from x402_django.pricing.methods import settings_templates

    alias = router.db_for_read(PaymentMethod)
    if alias not in (databases or ()) or not is_readable():
        return []
    try:
        if settings_templates():
            return []
        has_rows = PaymentMethod.objects.using(alias).filter(active=True).exists()
    except (ValueError, DatabaseError):
        # A malformed PAY_TO is E003; before the first migration there is no table to ask.
        return []
    if has_rows:
        return []
    return [
        Warning(
            "There is no way of being paid, so paid views answer 503.",
            hint="Set X402['PAY_TO'] and X402['NETWORKS'], or add a payment method in the admin.",
            id="x402_django.W011",
        )
    ]


@register(Tags.database)
def check_prices(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W018: an active price rule that no payment method takes: its pages answer 503."""
    from x402_django.models import PriceRule
    from x402_django.pricing.rules import unsellable_rules

    alias = router.db_for_read(PriceRule)
    if alias not in (databases or ()) or not is_readable():
        return []
    try:
        broken = unsellable_rules()
    except (ValueError, DatabaseError):
        return []  # as above
    return [
        Warning(
            f"The price rule “{rule.name}” cannot be used: {rule.error}",
            hint="Edit the rule, or the payment methods that it is paid by, in the admin.",
            id="x402_django.W018",
        )
        for rule in broken
    ]
