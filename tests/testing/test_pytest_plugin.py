"""The fixtures, used as a site's tests would use them."""

from __future__ import annotations

import pytest

from x402_django.testing.assertions import assert_paid
from x402_django.testing.facilitators import Mood
from x402_django.testing.instant import TEST_PAY_TO
from x402_django.testing.payer import PayingClient
from x402_django.testing.pytest_plugin import (  # noqa: F401
    x402_chain,
    x402_client,
    x402_funded_payer,
    x402_hostile_facilitator,
    x402_instant,
    x402_merchant,
    x402_payer,
)


@pytest.fixture
def bare_site(settings) -> None:
    settings.X402 = {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("bare_site")  # before the next, which builds upon it
def test_instant_without_any_settings(x402_instant, x402_client, x402_payer) -> None:  # noqa: F811
    response = x402_client.get("/weather/")
    payment = assert_paid(response, "$0.01", by=x402_payer)
    assert payment.pay_to == TEST_PAY_TO
    assert x402_instant.settled == [payment.nonce]


@pytest.mark.django_db(transaction=True)
def test_a_chain_with_a_payer_and_a_merchant(
    x402_chain,  # noqa: F811
    x402_merchant,  # noqa: F811
    x402_funded_payer,  # noqa: F811
) -> None:
    assert x402_merchant.balance == 0
    response = PayingClient(payer=x402_funded_payer).get("/weather/")
    payment = assert_paid(response, "$0.01", by=x402_funded_payer)
    assert x402_merchant.balance == 10_000
    assert x402_chain.dollars(x402_funded_payer.address) == 99_990_000
    assert payment.network == "eip155:1337"


@pytest.mark.django_db(transaction=True)
def test_a_hostile_facilitator(
    x402_hostile_facilitator,  # noqa: F811
    x402_merchant,  # noqa: F811
    x402_funded_payer,  # noqa: F811
) -> None:
    x402_hostile_facilitator.set_mood(Mood.REFUSES, endpoint="verify")
    client = PayingClient(payer=x402_funded_payer)
    assert client.get("/weather/").status_code == 402
    x402_hostile_facilitator.set_mood(Mood.HONEST)
    assert client.get("/weather/").status_code == 200
    assert len(x402_hostile_facilitator.calls_of("settle")) == 1
    assert x402_merchant.balance == 10_000
