"""``manage.py x402_facilitators``."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.chain.permits import offer_permit2
from tests.chain.support import NETWORK, x402_settings
from x402_django.models import PaymentMethod
from x402_django.testing.facilitators import HostileFacilitator, Mood

pytestmark = pytest.mark.django_db

REMOTE = "x402_django.facilitators.RemoteFacilitator"


@pytest.fixture
def hostile(chain, settings):
    with HostileFacilitator(chain) as running:
        settings.X402 = {
            **x402_settings(),
            "FACILITATORS": {"default": {"BACKEND": REMOTE, "OPTIONS": {"URL": running.url}}},
        }
        yield running


def said(*, fails: str = "") -> str:
    out = StringIO()
    if fails:
        with pytest.raises(CommandError, match=fails):
            call_command("x402_facilitators", stdout=out, no_color=True)
    else:
        call_command("x402_facilitators", stdout=out, no_color=True)
    return out.getvalue()


def test_one_that_is_in_order(hostile) -> None:
    assert said() == f"default: settles on {NETWORK}\n"


def test_one_that_is_down(hostile) -> None:
    hostile.set_mood(Mood.RATE_LIMITS)
    assert said(fails="Not in order: default.") == "default: does not answer\n"


def test_one_for_other_networks(hostile, monkeypatch) -> None:
    kinds = [{"x402Version": 2, "scheme": "exact", "network": "eip155:1"}]
    monkeypatch.setattr(hostile, "_supported", lambda: {"kinds": kinds})
    assert said(fails="Not in order: default.") == (
        f"default: settles on none of your networks\n  not on {NETWORK}\n"
    )


def test_one_that_does_not_settle_what_a_payment_method_asks_for(hostile) -> None:
    offer_permit2(scheme="upto")
    assert said(fails="Not in order: default.") == (
        f"default: settles on {NETWORK}\n  not on {NETWORK} by the scheme 'upto'\n"
    )
    PaymentMethod.objects.update(active=False)
    assert said() == f"default: settles on {NETWORK}\n"


def test_one_that_is_set_up_wrongly(settings) -> None:
    settings.X402 = {"FACILITATORS": {"default": {"BACKEND": "no.such.Backend"}}}
    assert "cannot be imported" in said(fails="Not in order: default.")
