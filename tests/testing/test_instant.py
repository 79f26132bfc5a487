"""Payments without a chain, in the test cases of a site whose own facilitator is out of reach."""

from __future__ import annotations

from django.conf import settings
from django.test import TestCase, override_settings

from tests.settings import PAY_TO, X402
from x402_django.exceptions import SettlementUnknown
from x402_django.models import Payment
from x402_django.testing.assertions import assert_paid, assert_requires_payment
from x402_django.testing.instant import InstantFacilitator, instant_payments
from x402_django.testing.payer import PayingClient

REMOTE = {
    "BACKEND": "x402_django.facilitators.RemoteFacilitator",
    "OPTIONS": {"URL": "http://127.0.0.1:9"},
}
LIVE = {**X402, "FACILITATORS": {"default": REMOTE, "other": REMOTE}}


@override_settings(X402=LIVE)
class LiveTests(TestCase):
    """Without it nothing can be sold here: what the other tests would show is no accident."""

    def test_nothing_is_sold(self) -> None:
        assert PayingClient().get("/weather/").status_code == 503


@override_settings(X402=LIVE)
@instant_payments(MINIMUM_PRICE="0.005")
class InstantTests(TestCase):
    """Inside the one transaction of Django's TestCase."""

    def test_weather_is_sold(self) -> None:
        assert_requires_payment(self.client.get("/weather/"), "$0.01")
        payment = assert_paid(PayingClient().get("/weather/"), "$0.01")
        assert payment.pay_to == PAY_TO
        assert InstantFacilitator.settled == [payment.nonce]

    def test_nothing_is_left_of_another_test(self) -> None:
        assert InstantFacilitator.calls == {}
        assert not Payment.objects.exists()

    def test_it_fails_on_command(self) -> None:
        InstantFacilitator.script["settle"].append(SettlementUnknown())
        assert PayingClient().get("/weather/").status_code == 503
        assert Payment.objects.get().state == Payment.State.SETTLING

    def test_the_sites_settings_are_kept(self) -> None:
        assert settings.X402["BASE_URL"] == X402["BASE_URL"]
        assert settings.X402["MINIMUM_PRICE"] == "0.005"
        assert set(settings.X402["FACILITATORS"]) == {"default", "other"}


@override_settings(X402=LIVE)
class ContextTests(TestCase):
    def test_as_a_context_manager(self) -> None:
        with instant_payments():
            assert_paid(PayingClient().get("/weather/"))
        assert settings.X402 == LIVE

    @instant_payments()
    def test_as_a_decorator_of_a_function(self) -> None:
        assert_paid(PayingClient().get("/weather/"))
