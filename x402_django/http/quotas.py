"""Whose free requests they are: of an address, a user, or a wallet that has signed in."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from x402_django.conf import x402
from x402_django.constants import REMAINING_HEADER
from x402_django.models.entries import FreeEntry
from x402_django.models.rule_quotas import QUOTA_ADDRESS, QUOTA_PAYER, QUOTA_USER
from x402_django.payments.quotas import take_free

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from x402_django.http.state import GateState
    from x402_django.payments.holdings import Holder
    from x402_django.pricing import Quote


def enter_free(request: HttpRequest, state: GateState, quote: Quote) -> bool:
    """Let a request in by the quota of its address or user, if one is left."""
    if quote.quota is None or quote.quota.per == QUOTA_PAYER:
        return False
    if quote.quota.per == QUOTA_USER:
        state.consulted |= {"Cookie", "Authorization"}
    subject = _subject(request, quote.quota.per)
    return subject is not None and _enter(request, state, quote, subject)


def enter_free_as(request: HttpRequest, state: GateState, quote: Quote, holder: Holder) -> bool:
    """Let a wallet in that has signed in, if one of its free requests is left."""
    if quote.quota is None or quote.quota.per != QUOTA_PAYER:
        return False
    return _enter(request, state, quote, f"{holder.payer} {holder.network or ''}")


def say_what_is_left(response: HttpResponseBase, left: int) -> None:
    """How many free requests are left in this period."""
    response[REMAINING_HEADER] = f"{left} free"


def client_address(request: HttpRequest) -> str | None:
    """The address that a request comes from; of IPv6 the network of 64 bits, which one client has.

    As the header says that ``X402["CLIENT_ADDRESS_HEADER"]`` names, which a proxy sets; else the
    connection's. None where there is none, or none that can be read.
    """
    header = x402.client_address_header
    text = request.headers.get(header, "") if header else request.META.get("REMOTE_ADDR", "")
    try:
        found = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(IPv6Address(int(found) >> 64 << 64))
    return str(found)


def _subject(request: HttpRequest, per: str) -> str | None:
    if per == QUOTA_ADDRESS:
        return client_address(request)
    user = getattr(request, "user", None)
    return str(user.pk) if user is not None and user.is_authenticated else None


def _enter(request: HttpRequest, state: GateState, quote: Quote, subject: str) -> bool:
    if quote.quota is None or quote.rule_id is None:
        return False
    taken = take_free(quote.quota, quote.rule_id, subject)
    if taken is None:
        return False
    state.quota = taken
    state.free = FreeEntry(reason=quote.rule_name, rule_id=quote.rule_id)
    request.payment = state.free  # type: ignore[attr-defined]
    return True
