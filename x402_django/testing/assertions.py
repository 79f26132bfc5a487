"""What a site's tests say of its paid views. Each raises AssertionError with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x402_django.constants import PAYMENT_REQUIRED_HEADER, PAYMENT_RESPONSE_HEADER
from x402_django.models import Payment
from x402_django.pricing.cache import current_rules
from x402_django.pricing.money import format_amount, parse_usd, to_atomic
from x402_django.protocol.networks import display_name
from x402_django.testing.payer import Payer, decode

Price = Any
"""As in ``payment_required``: ``"$0.01"``, a Decimal, or whole dollars as an int."""


def assert_requires_payment(response: Any, price: Price = None) -> list[dict[str, Any]]:
    """``response`` is a 402 with a challenge, of which every offer costs ``price``.

    Returns the offers as they went over the wire (v2 ``accepts``). ``price`` is in US dollars,
    as in ``payment_required``; None accepts any.
    """
    if response.status_code != 402:
        raise AssertionError(
            f"Payment was to be required; the answer was {response.status_code}, and free."
            if response.status_code < 400
            else f"Payment was to be required; the answer was {response.status_code}."
        )
    if not response.has_header(PAYMENT_REQUIRED_HEADER):
        raise AssertionError("The 402 has no PAYMENT-REQUIRED header: no client could pay it.")
    offers: list[dict[str, Any]] = decode(response[PAYMENT_REQUIRED_HEADER])["accepts"]
    if not offers:
        raise AssertionError("The challenge offers no way to pay.")
    if price is not None:
        usd = parse_usd(price)
        for offer in offers:
            decimals, symbol = _token_of(offer)
            if int(offer["amount"]) != to_atomic(usd, decimals):
                asked = format_amount(int(offer["amount"]), decimals, symbol)
                raise AssertionError(
                    f"The price was to be {usd} USD; {asked} on "
                    f"{display_name(offer['network'])} is asked for."
                )
    return offers


def assert_paid(response: Any, price: Price = None, *, by: Payer | None = None) -> Payment:
    """``response`` was paid for, and delivered; its ledger row.

    Args:
        response: the answer to a paying client.
        price: what it cost in US dollars, where that matters.
        by: who paid, where that matters.
    """
    if response.status_code >= 400 or not response.has_header(PAYMENT_RESPONSE_HEADER):
        raise AssertionError(
            f"The answer {response.status_code} was not paid for: {_reason(response)}"
        )
    payment = _payment_of(response)
    if price is not None and payment.amount != to_atomic(parse_usd(price), payment.asset_decimals):
        paid = format_amount(payment.amount, payment.asset_decimals, payment.asset_symbol)
        raise AssertionError(f"The price was to be {parse_usd(price)} USD; {paid} was paid.")
    if by is not None and payment.payer != by.address:
        raise AssertionError(f"{by.address} was to pay; {payment.payer} paid.")
    return payment


def assert_not_charged(payer: Payer) -> None:
    """Nothing was taken from ``payer``, and nothing is on its way."""
    taken = (Payment.State.SETTLING, Payment.State.SETTLED, Payment.State.FINAL)
    for payment in Payment.objects.filter(payer=payer.address, state__in=taken):
        paid = format_amount(payment.amount, payment.asset_decimals, payment.asset_symbol)
        raise AssertionError(f"{paid} was taken for {payment.resource_url} ({payment.state}).")


def _payment_of(response: Any) -> Payment:
    settlement = decode(response[PAYMENT_RESPONSE_HEADER])
    rows = Payment.objects.filter(payer=settlement["payer"])
    if settlement.get("transaction"):
        rows = rows.filter(transaction=settlement["transaction"])
    payment = rows.filter(delivered_at__isnull=False).order_by("-pk").first()
    if payment is None:
        raise AssertionError("The ledger knows no payment that this answer was delivered for.")
    return payment


def _reason(response: Any) -> str:
    if response.has_header(PAYMENT_REQUIRED_HEADER):
        return str(decode(response[PAYMENT_REQUIRED_HEADER]).get("error") or "payment is required")
    if response.has_header(PAYMENT_RESPONSE_HEADER):
        return str(decode(response[PAYMENT_RESPONSE_HEADER]).get("errorReason") or "no reason")
    return "it has no PAYMENT-RESPONSE header"


def _token_of(offer: Mapping[str, Any]) -> tuple[int, str]:
    """The decimals and the symbol of the token that is asked for, which are not on the wire."""
    for template in current_rules().templates:
        if (template.network, template.asset) == (offer["network"], offer["asset"]):
            return template.decimals, template.symbol
    raise AssertionError(f"The token {offer['asset']} is in no payment method of this site.")
