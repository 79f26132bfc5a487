"""From an amount to the offers a payer may choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from x402_django.conf import x402
from x402_django.constants import SCHEME_EXACT, SCHEME_UPTO
from x402_django.exceptions import ConfigurationError
from x402_django.pricing.money import to_atomic
from x402_django.protocol.types import Offer

if TYPE_CHECKING:
    from x402_django.models import PaymentMethod


def method_template(method: PaymentMethod) -> Offer:
    """The offer of a PaymentMethod row, with no amount yet."""
    return Offer(
        scheme=method.scheme,
        network=method.network,
        asset=method.asset,
        amount=0,
        pay_to=method.pay_to,
        max_timeout_seconds=x402.max_timeout_seconds,
        asset_name=method.asset_name,
        asset_version=method.asset_version,
        decimals=method.asset_decimals,
        symbol=method.asset_symbol,
        facilitator=method.facilitator,
        method_id=method.pk,
        transfer_proofs=method.transfer_proofs,
        transfer_method=method.transfer_method,
        sponsoring=method.sponsoring,
    )


def settings_templates() -> tuple[Offer, ...]:
    """The ways of being paid that the settings imply: PAY_TO, in each network's first dollar."""
    from x402_django.protocol.assets import default_asset, to_checksum_address

    if not x402.pay_to:
        return ()
    templates = []
    for settings in x402.networks.values():
        asset = default_asset(settings.network)
        if asset is not None:
            templates.append(
                Offer(
                    scheme=SCHEME_EXACT,
                    network=settings.network,
                    asset=asset.address,
                    amount=0,
                    pay_to=to_checksum_address(x402.pay_to),
                    max_timeout_seconds=x402.max_timeout_seconds,
                    asset_name=asset.name,
                    asset_version=asset.version,
                    decimals=asset.decimals,
                    symbol=asset.symbol,
                    facilitator=settings.facilitator,
                    transfer_proofs=x402.transfer_proofs,
                )
            )
    return tuple(templates)


def suited(templates: Sequence[Offer], *, metered: bool) -> tuple[Offer, ...]:
    """Those of the default ways of being paid that suit a price.

    ``upto`` is for prices that are a maximum, and comes first there; elsewhere nobody would say
    what was used, and the maximum would be charged.
    """
    if not metered:
        return tuple(one for one in templates if one.scheme != SCHEME_UPTO)
    return tuple(sorted(templates, key=lambda one: one.scheme != SCHEME_UPTO))


def offers_for(
    templates: Sequence[Offer], *, price_usd: Decimal | None, token_amount: int | None = None
) -> tuple[Offer, ...]:
    """``templates`` with their amounts: the dollar price in each token, or ``token_amount`` as is.

    Raises ConfigurationError when there is no way of being paid, the price cannot be paid
    exactly in one of the tokens, or it is no price at all: settling nothing costs gas.
    """
    if not templates:
        raise ConfigurationError(
            "There is no way of being paid: set X402['PAY_TO'] and X402['NETWORKS'], or add a "
            "payment method in the admin."
        )
    offers = []
    for template in templates:
        if token_amount is not None:
            amount = token_amount
        elif price_usd is not None:
            amount = to_atomic(price_usd, template.decimals)
        else:
            raise ConfigurationError("A price in dollars or in token units is needed.")
        if amount <= 0:
            raise ConfigurationError("A price must be at least one token unit.")
        offers.append(replace(template, amount=amount))
    return tuple(offers)
