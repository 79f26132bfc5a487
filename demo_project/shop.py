"""Opening the shop: what a merchant would do by hand, once, after installing it."""

from __future__ import annotations

import secrets
from decimal import Decimal
from io import StringIO
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command

from x402_django.conf import x402
from x402_django.constants import (
    GRANT_CREDITS,
    GRANT_PASS,
    PERMIT2_ADDRESS,
    SCHEME_EXACT,
    SCHEME_UPTO,
    SPONSOR_EIP2612,
    TRANSFER_EIP3009,
    TRANSFER_PERMIT2,
    UPTO_PROXY_ADDRESS,
)
from x402_django.exceptions import ServiceUnavailable
from x402_django.facilitators.base import get_facilitator
from x402_django.models import PaymentMethod, PriceRule
from x402_django.protocol.assets import KnownAsset, to_checksum_address
from x402_django.protocol.networks import display_name

MERCHANT = "merchant"
#: What a merchant may edit; the ledger can only be looked at.
EDITABLE = (PaymentMethod, PriceRule)


def prepare_database() -> None:
    """Check the settings, and bring the tables and the static files up to date.

    Raises django.core.management.CommandError with the errors of the system checks.
    """
    call_command("check", stdout=StringIO())
    call_command("migrate", verbosity=0, interactive=False)
    call_command("collectstatic", verbosity=0, interactive=False)


def open_shop(asset: KnownAsset) -> None:
    """A way of being paid, and a price for the articles; what is there already is kept."""
    # Methods of a network that is not configured (any more) cannot be settled.
    PaymentMethod.objects.exclude(network=asset.network).update(active=False)
    method, _ = PaymentMethod.objects.get_or_create(
        scheme=SCHEME_EXACT,
        transfer_method=TRANSFER_EIP3009,
        network=asset.network,
        asset=asset.address,
        pay_to=to_checksum_address(x402.pay_to or ""),
        defaults={
            "name": f"{asset.symbol} on {display_name(asset.network)} ({asset.network})",
            "asset_symbol": asset.symbol,
            "asset_name": asset.name,
            "asset_version": asset.version,
            "asset_decimals": asset.decimals,
        },
    )
    if not method.active:
        PaymentMethod.objects.filter(pk=method.pk).update(active=True)
    _offer_metered(asset, method)
    PriceRule.objects.get_or_create(
        name="Articles",
        defaults={
            "url_names": ["article"],
            "price_usd": Decimal("0.05"),
            "description": "An article",
            "mime_type": "text/html",
            "session_access": 24 * 60 * 60,  # who has bought one may read it for a day
        },
    )
    PriceRule.objects.get_or_create(
        name="Day pass",
        defaults={
            "url_names": ["day-pass"],
            "price_usd": Decimal("0.10"),
            "description": "All articles, for a day",
            "grants": GRANT_PASS,
            "pass_hours": 24,
            "pass_pages": ["article"],
        },
    )
    PriceRule.objects.get_or_create(
        name="Credits",
        defaults={
            "url_names": ["credits"],
            "price_usd": Decimal("0.10"),
            "description": "Credits of 12 cents for the price of 10",
            "grants": GRANT_CREDITS,
            "credits_usd": Decimal("0.12"),
        },
    )
    PriceRule.objects.get_or_create(
        name="Forecasts",
        defaults={
            "url_names": ["forecast"],
            "price_usd": Decimal("0.02"),
            "description": "Weather forecast",
            "mime_type": "application/json",
            "takes_credits": True,
        },
    )


def _offer_metered(asset: KnownAsset, method: PaymentMethod) -> None:
    """The scheme ``upto`` for the same token, where it can be settled; else it is not offered."""
    terms = {
        "scheme": SCHEME_UPTO,
        "transfer_method": TRANSFER_PERMIT2,
        "network": asset.network,
        "asset": asset.address,
        "pay_to": method.pay_to,
    }
    if not _can_meter(method):
        PaymentMethod.objects.filter(**terms).update(active=False)
        return
    metered, _ = PaymentMethod.objects.get_or_create(
        **terms,
        defaults={
            "name": f"{method.name}, metered",
            "asset_symbol": asset.symbol,
            "asset_name": asset.name,
            "asset_version": asset.version,
            "asset_decimals": asset.decimals,
            "sponsoring": SPONSOR_EIP2612,
        },
    )
    PaymentMethod.objects.filter(pk=metered.pk).update(active=True)


def _can_meter(method: PaymentMethod) -> bool:
    """Whether its facilitator settles ``upto``, and Permit2 and the proxy are on the network."""
    from x402_django.chain.evidence import has_code  # loads web3

    if method.network not in x402.networks:
        return False
    try:
        settlers = get_facilitator(method.facilitator).settlers(method.network)
        return bool(settlers) and all(
            has_code(method.network, address) for address in (PERMIT2_ADDRESS, UPTO_PROXY_ADDRESS)
        )
    except ServiceUnavailable:
        return False


def merchant_login(*, renew: bool) -> str | None:
    """The password of the merchant's login: a new one, or None if it is there and is kept."""
    users: Any = get_user_model()._default_manager
    merchant, created = users.get_or_create(username=MERCHANT, defaults={"is_staff": True})
    if not (created or renew):
        return None
    password = secrets.token_urlsafe(12)
    merchant.set_password(password)
    merchant.is_staff = merchant.is_active = True
    merchant.save()
    merchant.user_permissions.set(_permissions())
    return password


def _permissions() -> list[Permission]:
    """To see everything of x402-django's, and to edit methods and prices."""
    editable = {model._meta.model_name for model in EDITABLE}
    ours = Permission.objects.filter(content_type__app_label="x402_django")
    return [
        permission
        for permission in ours.select_related("content_type")
        if permission.content_type.model in editable or permission.codename.startswith("view_")
    ]
