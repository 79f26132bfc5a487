"""Who is paid, where a view's code says so: a seller on a marketplace, the author of an article.

The code's word goes before the payment methods': only it knows whose goods they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from x402_django.exceptions import ConfigurationError
from x402_django.protocol.assets import canonical_address, has_valid_checksum
from x402_django.protocol.base58 import is_solana_address
from x402_django.protocol.networks import is_solana
from x402_django.protocol.types import Offer

if TYPE_CHECKING:
    from django.http import HttpRequest

#: An address, for every network on which it is one; or addresses by CAIP-2 network.
Payee = str | Mapping[str, str]
#: A callable's None means: as the payment methods say.
PayeeSource = Payee | Callable[["HttpRequest"], Payee | None]

_ZERO_ADDRESS = "0x" + "0" * 40


def paid_to(offers: Sequence[Offer], payee: Payee | None) -> tuple[Offer, ...]:
    """``offers``, made out to ``payee``; those of networks where it has no address are left out.

    Raises ConfigurationError for what is no address, for one to which money would be lost, and
    where no offer is left.
    """
    if payee is None:
        return tuple(offers)
    made_out = []
    for offer in offers:
        address = payee if isinstance(payee, str) else payee.get(offer.network)
        if address is None or is_solana(offer.network) != is_solana_address(address):
            continue  # an address for the other kind of network
        made_out.append(replace(offer, pay_to=_address(offer.network, address, offer.asset)))
    if not made_out:
        raise ConfigurationError(
            "Whom the code says to pay has no address on any network that is offered."
        )
    return tuple(made_out)


@lru_cache(maxsize=4096)
def _address(network: str, address: str, asset: str) -> str:
    canonical = canonical_address(network, address)
    if canonical is None or not (is_solana(network) or has_valid_checksum(address)):
        raise ConfigurationError(
            f"{address!r}, whom the code says to pay, is not an address or was mistyped."
        )
    if canonical in (_ZERO_ADDRESS, asset):
        raise ConfigurationError(
            f"The code says to pay {canonical}, which is nobody's: the money would be lost."
        )
    return canonical
