"""From an amount to the offers a payer may choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

from x402_django.conf import x402
from x402_django.constants import SCHEME_BATCH, SCHEME_EXACT, SCHEME_UPTO, UINT256_MAX
from x402_django.exceptions import ConfigurationError
from x402_django.pricing.money import to_atomic
from x402_django.protocol.types import Offer, native_method

if TYPE_CHECKING:
    from x402_django.models import PaymentMethod


@dataclass(frozen=True, slots=True)
class OfferTemplate(Offer):
    """A way of being paid: an offer with no amount yet, and what it makes of a price.

    All in whole tokens: ``fee_amount``, and ``fee_percent`` of the price, are added to it;
    ``minimum_amount`` and ``maximum_amount`` are the least and the most that is asked for in all.
    """

    fee_amount: Decimal = Decimal(0)
    fee_percent: Decimal = Decimal(0)
    minimum_amount: Decimal | None = None
    maximum_amount: Decimal | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether there are amounts for which it is not offered."""
        return self.minimum_amount is not None or self.maximum_amount is not None

    def asking(self, price: int) -> Offer | None:
        """The offer for a price in atomic units; None where it is not offered for this price.

        Raises ConfigurationError for what no token can hold.
        """
        fee = self._fee(price)
        amount = price + fee
        if amount > UINT256_MAX:
            raise ConfigurationError("The price and its fee are more than a token can hold.")
        if not self._is_within_bounds(Fraction(amount, 10**self.decimals)):
            return None
        values = {name: getattr(self, name) for name in _OFFER_FIELDS}
        return Offer(**{**values, "amount": amount, "fee": fee})

    def _is_within_bounds(self, tokens: Fraction) -> bool:
        least, most = self.minimum_amount, self.maximum_amount
        return (least is None or tokens >= Fraction(least)) and (
            most is None or tokens <= Fraction(most)
        )

    def _fee(self, price: int) -> int:
        """Rounded up: never less than was meant. No finer than prices in dollars are kept."""
        exact = price * Fraction(self.fee_percent) / 100
        exact += Fraction(self.fee_amount) * 10**self.decimals
        grain = 10 ** max(0, self.decimals - _USD_DECIMALS)
        return int(ceil(exact / grain) * grain)


_OFFER_FIELDS = tuple(field.name for field in fields(Offer))
#: Of the ledger's prices in dollars.
_USD_DECIMALS = 8


def method_template(method: PaymentMethod) -> OfferTemplate:
    """The offer of a PaymentMethod row, with no amount yet."""
    return OfferTemplate(
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
        withdraw_delay=x402.channel_withdraw_delay if method.scheme == SCHEME_BATCH else 0,
        fee_amount=method.fee_amount,
        fee_percent=method.fee_percent,
        minimum_amount=method.minimum_amount,
        maximum_amount=method.maximum_amount,
    )


def settings_templates() -> tuple[OfferTemplate, ...]:
    """The ways of being paid that the settings imply: PAY_TO, in each network's first dollar."""
    from x402_django.protocol.assets import canonical_address, default_asset

    templates = []
    for settings in x402.networks.values():
        pay_to = canonical_address(settings.network, settings.pay_to or x402.pay_to or "")
        asset = default_asset(settings.network)
        if asset is not None and pay_to is not None:
            templates.append(
                OfferTemplate(
                    scheme=SCHEME_EXACT,
                    network=settings.network,
                    asset=asset.address,
                    amount=0,
                    pay_to=pay_to,
                    max_timeout_seconds=x402.max_timeout_seconds,
                    asset_name=asset.name,
                    asset_version=asset.version,
                    decimals=asset.decimals,
                    symbol=asset.symbol,
                    facilitator=settings.facilitator,
                    transfer_proofs=x402.transfer_proofs,
                    transfer_method=native_method(settings.network),
                )
            )
    return tuple(templates)


def suited(templates: Sequence[OfferTemplate], *, metered: bool) -> tuple[OfferTemplate, ...]:
    """Those of the default ways of being paid that suit a price.

    ``upto`` is for prices that are a maximum, and comes first there; elsewhere nobody would say
    what was used, and the maximum would be charged. Vouchers of a channel are for the whole price.
    """
    if not metered:
        return tuple(one for one in templates if one.scheme != SCHEME_UPTO)
    fitting = [one for one in templates if one.scheme != SCHEME_BATCH]
    return tuple(sorted(fitting, key=lambda one: one.scheme != SCHEME_UPTO))


def offers_for(
    templates: Sequence[OfferTemplate],
    *,
    price_usd: Decimal | None,
    token_amount: int | None = None,
) -> tuple[Offer, ...]:
    """``templates`` with their amounts: the dollar price in each token, or ``token_amount`` as is.

    To which each adds its fee. Those between whose bounds the amount is not are left out.

    Raises ConfigurationError when there is no way of being paid, the price cannot be paid
    exactly in one of the tokens, no way of being paid is for such an amount, or it is no price at
    all: settling nothing costs gas.
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
        offer = template.asking(amount)
        if offer is not None:
            offers.append(offer)
    if not offers:
        raise ConfigurationError(
            "No payment method takes this price: it is below the minimum or above the maximum of "
            "each."
        )
    return tuple(offers)
