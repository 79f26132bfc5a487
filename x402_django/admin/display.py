"""Amounts, addresses, hashes and links as people read them. Everything returned is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from x402_django.models import Payment
from x402_django.pricing.money import format_amount, format_usd
from x402_django.protocol import networks

#: What stands where there is nothing to show.
EMPTY = "—"
#: Characters of a signature that may be seen: enough to compare, useless to anybody else.
SIGNATURE_PREFIX = 10


def shorten(value: str) -> SafeString | str:
    """An address or hash as ``0x7099…79C8``, the whole of it on hover and for screen readers."""
    if len(value) <= 13:
        return value or EMPTY
    return format_html('<span title="{}">{}…{}</span>', value, value[:6], value[-4:])


def external_link(url: str, text: str) -> SafeString | str:
    """``text`` as a link to a block explorer; plain where there is none.

    The address comes from the site's settings or our own table, but whoever opens it learns
    nothing of the admin: no opener, no referrer.
    """
    if not text:
        return EMPTY
    if not url.startswith(("https://", "http://")):
        return text
    return format_html('<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>', url, text)


def transaction_link(network: str, transaction: str, *, short: bool = False) -> SafeString | str:
    """A transaction hash, linked to the network's block explorer."""
    url = networks.explorer_transaction_url(network, transaction)
    return external_link(url, shorten(transaction) if short else transaction)


def address_link(network: str, address: str) -> SafeString | str:
    """An address in full, linked to the network's block explorer."""
    return external_link(networks.explorer_address_url(network, address), address)


def network_label(network: str) -> str:
    """``Base Sepolia (eip155:84532)``."""
    name = networks.display_name(network)
    return name if name == network else f"{name} ({network})"


def path_of(url: str) -> str:
    """What follows the origin, which is the site's own on every row."""
    return urlsplit(url).path or url


def short_moment(when: datetime | None) -> str:
    """A time, short enough for a column."""
    if when is None:
        return EMPTY
    local = timezone.localtime(when) if timezone.is_aware(when) else when
    return formats.date_format(local, "SHORT_DATETIME_FORMAT")


def object_link(obj: Any, text: str | None = None) -> SafeString | str:
    """A link to the admin page of ``obj``; an em dash for None."""
    if obj is None:
        return EMPTY
    model = obj._meta.model_name
    if model == "payment" and obj.kind == Payment.Kind.SERVICE:
        model = "servicepayment"  # in a list of its own
    url = reverse(f"admin:{obj._meta.app_label}_{model}_change", args=[obj.pk])
    return format_html('<a href="{}">{}</a>', url, text if text is not None else str(obj))


def payment_link(payment_id: int | None) -> SafeString | str:
    """A link to the page of a payment, without reading the wide columns of its row."""
    if payment_id is None:
        return EMPTY
    payments = Payment.objects.only("public_id", "state", "kind")
    return object_link(payments.filter(pk=payment_id).first())


def usd(price: Decimal | None) -> str:
    """``$0.01``: at least two decimals, and no more zeros than that."""
    return EMPTY if price is None else format_usd(price)


def plain(number: Decimal) -> str:
    """A number without zeros at its end: ``0.002``, ``10``."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def badge(name: str, words: str) -> SafeString:
    """A state, coloured by its name."""
    return format_html('<span class="x402-badge x402-badge-{}">{}</span>', name, words)


def lines(texts: Iterable[str]) -> SafeString | str:
    """Each on a line of its own; an em dash for none."""
    return format_html_join(mark_safe("<br>"), "{}", ((text,) for text in texts)) or EMPTY


def amount(row: Any) -> str:
    """The amount of a payment or receipt in its token: ``0.01 USDC``. Exact."""
    return format_amount(row.amount, row.asset_decimals, row.asset_symbol)


def moment(seconds: int) -> str:
    """Seconds since the epoch as a local date and time; as they are if no calendar has them."""
    try:
        when = datetime.fromtimestamp(seconds, tz=timezone.get_current_timezone())
    except (OverflowError, ValueError, OSError):
        return _("%(seconds)s seconds since 1970") % {"seconds": seconds}
    return formats.date_format(when, "DATETIME_FORMAT")


#: What whoever holds it could send: signatures, also of approvals, and signed transactions.
_SECRET = frozenset({"signature", "signedTransaction", "transaction"})


def redacted_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A payment payload with its signature cut: the rest is public on chain, the signature isn't.

    An authorization that was never settled can be sent by whoever holds its signature.
    """
    return {
        name: redacted_payload(value)
        if isinstance(value, Mapping)
        else str(value)[:SIGNATURE_PREFIX] + "…"
        if value and name in _SECRET
        else value
        for name, value in payload.items()
    }
