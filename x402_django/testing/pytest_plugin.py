"""Fixtures for pytest. In the ``conftest.py`` of a site::

    pytest_plugins = ["x402_django.testing.pytest_plugin"]

``x402_instant`` and what pays there need nothing else. The fixtures with a chain need the extra
``x402-django[devchain]``, and ``@pytest.mark.django_db(transaction=True)``: money is committed
before it moves, which a test inside one transaction would not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from x402_django.chain.devchain import DevChain
    from x402_django.testing.facilitators import HostileFacilitator
    from x402_django.testing.instant import InstantFacilitator
    from x402_django.testing.payer import Payer, PayingClient

#: The network of ``x402_chain``.
NETWORK: Final = "eip155:1337"
#: Seconds that a misbehaving facilitator is given to answer.
PATIENCE: Final = 2


@dataclass(frozen=True, slots=True)
class Merchant:
    """Who is paid on ``x402_chain``. Amounts are atomic units of the test dollar."""

    address: str
    chain: DevChain

    @property
    def balance(self) -> int:
        """What the chain says it has."""
        return self.chain.dollars(self.address)


@pytest.fixture
def x402_instant() -> Iterator[type[InstantFacilitator]]:
    """Every payment with a good signature settles at once; see ``testing.instant``."""
    from x402_django.testing.instant import InstantFacilitator, instant_payments

    with instant_payments():
        yield InstantFacilitator


@pytest.fixture
def x402_payer() -> Payer:
    """Somebody new, without money: enough where payments settle at once."""
    from x402_django.testing.payer import Payer

    return Payer()


@pytest.fixture
def x402_client(x402_payer: Payer) -> PayingClient:
    """Django's test client, which pays what it is asked to pay with ``x402_payer``'s key."""
    from x402_django.testing.payer import PayingClient

    return PayingClient(payer=x402_payer)


@pytest.fixture
def x402_chain(settings: Any) -> Iterator[DevChain]:
    """A fresh chain, which the site's settings name as its one network, with its own wallet."""
    from x402_django.testing.chain import dev_chain, reset_dev_chains

    reset_dev_chains()
    chain = dev_chain(NETWORK)
    settings.X402 = _chain_settings(settings, chain)
    yield chain
    reset_dev_chains()


@pytest.fixture
def x402_merchant(x402_chain: DevChain, settings: Any) -> Merchant:
    """Who is paid on ``x402_chain``."""
    return Merchant(settings.X402["PAY_TO"], x402_chain)


@pytest.fixture
def x402_funded_payer(x402_chain: DevChain) -> Payer:
    """Somebody with 100 test dollars on ``x402_chain``."""
    from x402_django.testing.chain import new_payer
    from x402_django.testing.payer import Payer

    return Payer(new_payer(x402_chain, 100))


@pytest.fixture
def x402_hostile_facilitator(x402_chain: DevChain, settings: Any) -> Iterator[HostileFacilitator]:
    """A facilitator that settles on ``x402_chain`` and misbehaves on demand; see its ``Mood``."""
    from x402_django.testing.facilitators import HostileFacilitator

    with HostileFacilitator(x402_chain) as facilitator:
        options = {"URL": facilitator.url, "TIMEOUT": PATIENCE, "SETTLE_TIMEOUT": PATIENCE}
        remote = {
            "BACKEND": "x402_django.facilitators.RemoteFacilitator",
            "OPTIONS": options,
        }
        settings.X402 = {**settings.X402, "FACILITATORS": {"default": remote}}
        yield facilitator


def _chain_settings(settings: Any, chain: DevChain) -> dict[str, Any]:
    from x402_django.chain.devchain import deployment
    from x402_django.testing.instant import TEST_PAY_TO

    own = getattr(settings, "X402", {})
    dollar = {
        "ADDRESS": deployment.TOKEN_ADDRESS,
        "NAME": deployment.TOKEN_NAME,
        "VERSION": deployment.TOKEN_VERSION,
        "DECIMALS": deployment.TOKEN_DECIMALS,
        "SYMBOL": deployment.TOKEN_SYMBOL,
    }
    local = {
        "BACKEND": "x402_django.facilitators.LocalFacilitator",
        "OPTIONS": {"KEY": chain.accounts[0].private_key},
    }
    return {
        **own,
        "PAY_TO": own.get("PAY_TO") or TEST_PAY_TO,
        "NETWORKS": {
            NETWORK: {
                "PROVIDER": "x402_django.testing.chain.dev_provider",
                "ASSETS": [dollar],
                "POLL_INTERVAL": 0.01,
                "CONFIRMATIONS": 1,
            }
        },
        "FACILITATORS": {"default": local},
    }
