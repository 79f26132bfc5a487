"""The pay page, where a ``Pay-URL`` leads people.

It shows the transfer that a challenge asks for, has a wallet send it, and brings its proof to what
it pays for, or hands it out.

The challenge in the address is the site's own, signed; nothing else that a visitor sends is
believed, and nothing is stored or asked of a network. Whether a transfer pays is decided where its
proof is presented (docs/transfer-proofs.md).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone
from django.utils.formats import date_format
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.http.pages import page_response
from x402_django.http.resource import resource_origin
from x402_django.http.responses import json_response
from x402_django.http.transfers import WANTED, is_for, pay_address
from x402_django.http.wallets import app_links, chain_parameters, qr_code
from x402_django.payments.transfer_claims import LATE_PROOF
from x402_django.pricing.money import format_amount
from x402_django.protocol.networks import (
    display_name,
    explorer_address_url,
    is_testnet,
    parse_chain_id,
)
from x402_django.protocol.proofs import TransferChallenge, proof_message

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

TEMPLATE: Final = "x402_django/pay.html"
#: Seconds that a transfer is given to be mined: nobody is asked to send one later than this
#: before the challenge's end.
SENDING_TIME: Final = 60
#: This page's address carries the challenge; its code is drawn larger than others.
_MAX_QR_LENGTH: Final = 700


@never_cache
@require_safe
def pay_page(request: HttpRequest, challenge_id: str) -> HttpResponse:
    """The page, from ``x402_django/pay.html``; for programs the challenge, as its header has it.

    404 for what this site has not signed, 410 for a challenge that has expired.
    """
    wants_page = request.get_preferred_type(["application/json", "text/html"]) == "text/html"
    try:
        challenge = TransferChallenge.from_id(challenge_id)
    except PaymentRefused as refusal:
        if wants_page:
            return page_response(request, TEMPLATE, {"challenge": None}, status=404)
        return json_response({"error": refusal.code, "message": str(refusal)}, status=404)
    now = clock.timestamp()
    can_send = now <= challenge.expires - SENDING_TIME
    status = 410 if now > challenge.expires else 200
    if not wants_page:
        if status == 200:
            return json_response(challenge.document(), status=status)
        body = {"error": Code.CHALLENGE_EXPIRED, "message": "The challenge has expired."}
        return json_response(body, status=status)
    context = {
        **_facts(challenge),
        "challenge_id": challenge_id,
        "can_send": can_send,
        "can_prove": now <= challenge.expires + LATE_PROOF,
        "proof_text": proof_message(challenge_id, "<hash>"),
        **_resource(request, challenge),
    }
    context["page"] = {
        "now": now,
        "lastSending": challenge.expires - SENDING_TIME if can_send else 0,
        "challenge": challenge.document(),
        "resource": context["resource"],
        "offer": {
            "amount": context["amount"],
            "decimals": challenge.decimals,
            "symbol": challenge.symbol,
            "chain": chain_parameters(challenge.network),
        },
    }
    return page_response(request, TEMPLATE, context, status=status)


def _facts(challenge: TransferChallenge) -> dict[str, Any]:
    """What the challenge says, for people."""
    network = challenge.network
    ends = timezone.localtime(datetime.fromtimestamp(challenge.expires, UTC))
    return {
        "challenge": challenge,
        "amount": format_amount(challenge.amount, challenge.decimals, challenge.symbol),
        "price_usd": challenge.price_usd,
        "network": display_name(network),
        "chain_id": parse_chain_id(network),
        "is_testnet": is_testnet(network),
        "pay_to_url": explorer_address_url(network, challenge.pay_to),
        "asset_url": explorer_address_url(network, challenge.asset),
        "expires": f"{date_format(ends, 'DATETIME_FORMAT')} {ends.tzname()}",
    }


def _resource(request: HttpRequest, challenge: TransferChallenge) -> dict[str, Any]:
    """What is paid for, if the address names it rightly, and where this page is for phones."""
    wanted = request.GET.get(WANTED, "")
    if not is_for(request, challenge, wanted):
        wanted = ""
    path, _, query = wanted.partition("?")
    url = pay_address(request, request.path, wanted)
    return {
        "resource": wanted,
        "resource_url": resource_origin(request) + path,
        "resource_link": resource_origin(request) + wanted,
        # Where its app is missing, a wallet's own site gets the link; a query may name people.
        "app_links": [] if query else app_links(url),
        "qr_code": qr_code(url, longest=_MAX_QR_LENGTH),
    }
