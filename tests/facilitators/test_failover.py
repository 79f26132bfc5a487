"""Two facilitators in order, each in any mood: who is asked, who never is, what the row says.

Real HTTP to both, a real EVM behind them; the payee's balance is the judge.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from django.db import connection

from tests.chain.support import NETWORK, PRICE, sign, store, x402_settings
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.constants import Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    InvalidTransition,
    PaymentRefused,
    SettlementUnknown,
)
from x402_django.facilitators import failover
from x402_django.facilitators.base import BaseFacilitator, get_facilitator
from x402_django.facilitators.breaker import BreakerState
from x402_django.models import Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.chain import dev_chain, new_payer, reset_dev_chains
from x402_django.testing.facilitators import HostileFacilitator, Mood
from x402_django.testing.payer import Payer, PayingClient

pytestmark = pytest.mark.django_db(transaction=True)

FAILOVER = "x402_django.facilitators.FailoverFacilitator"
REMOTE = "x402_django.facilitators.RemoteFacilitator"


@pytest.fixture
def chain():
    reset_dev_chains()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def first(chain):
    with HostileFacilitator(chain) as hostile:
        yield hostile


@pytest.fixture
def second(chain):
    with HostileFacilitator(chain) as hostile:
        yield hostile


@pytest.fixture
def use(settings, patience):
    """Configure the two; an address stands for one that runs no server of ours."""

    def configure(
        first_url: str, second_url: str, *, patience: float = patience, **options: object
    ) -> None:
        def remote(url: str) -> dict[str, object]:
            return {
                "BACKEND": REMOTE,
                "OPTIONS": {"URL": url, "TIMEOUT": patience, "SETTLE_TIMEOUT": patience},
            }

        settings.X402 = {
            **x402_settings(),
            "CONFIRMATION_INTERVAL": 0,
            "FACILITATORS": {
                "default": {
                    "BACKEND": FAILOVER,
                    "OPTIONS": {"FACILITATORS": ["first", "second"], **options},
                },
                "first": remote(first_url),
                "second": remote(second_url),
            },
        }

    return configure


@pytest.fixture
def both(first, second, use) -> tuple[HostileFacilitator, HostileFacilitator]:
    use(first.url, second.url)
    return first, second


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where a connection is refused."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def shopper(chain) -> PayingClient:
    return PayingClient(
        payer=Payer(new_payer(chain, 1)), automatic=False, raise_request_exception=False
    )


def asked(hostile: HostileFacilitator) -> tuple[int, int]:
    return len(hostile.calls_of("verify")), len(hostile.calls_of("settle"))


def changes(payment: Payment) -> list[str]:
    return list(payment.events.filter(code="facilitator_changed").values_list("reason", flat=True))


# ------------------------------------------------------------------------ verifying


def test_the_first_serves_while_it_can(chain, both, shopper) -> None:
    first, second = both
    assert shopper.pay("GET", "/weather/").status_code == 200
    assert (asked(first), asked(second)) == ((1, 1), (0, 0))
    payment = Payment.objects.get()
    assert (payment.facilitator, payment.state) == ("first", "settled")
    assert chain.dollars(PAY_TO) == PRICE


DOWN = [
    Mood.CLOSES_CONNECTION,
    Mood.FAILS_AFTER_SETTLING,  # 500
    Mood.HANGS,
    Mood.RATE_LIMITS,
    Mood.REDIRECTS,
    Mood.RETURNS_GARBAGE,
    Mood.WRONG_PAYER,
]


@pytest.mark.parametrize("path", ["/weather/", "/order/"])
@pytest.mark.parametrize("mood", DOWN)
def test_the_second_verifies_and_settles_what_the_first_cannot(
    chain, both, shopper, mood, path
) -> None:
    first, second = both
    first.set_mood(mood)
    method = "GET" if path == "/weather/" else "POST"
    assert shopper.pay(method, path).status_code in (200, 201)
    assert (asked(first), asked(second)) == ((1, 0), (1, 1))
    assert first.calls_of("elsewhere") == []
    payment = Payment.objects.get()
    assert (payment.facilitator, payment.state) == ("second", "settled")
    assert chain.dollars(PAY_TO) == Receipt.objects.get().amount == payment.amount


def test_a_refusal_is_not_taken_to_the_second(chain, both) -> None:
    first, second = both
    poor = PayingClient(
        payer=Payer(new_payer(chain, 0)), automatic=False, raise_request_exception=False
    )
    response = poor.pay("GET", "/weather/")
    assert response.status_code == 402
    assert (asked(first), asked(second)) == ((1, 0), (0, 0))
    assert Payment.objects.get().failure_code == Code.INSUFFICIENT_FUNDS


def test_with_both_down_nothing_happens_and_nothing_is_owed(chain, both, shopper) -> None:
    for hostile in both:
        hostile.set_mood(Mood.RATE_LIMITS)
    assert shopper.pay("GET", "/weather/").status_code == 503
    assert [asked(hostile) for hostile in both] == [(1, 0), (1, 0)]
    assert (Payment.objects.get().state, runs["weather"]) == ("released", 0)
    assert chain.dollars(PAY_TO) == 0


def test_one_that_does_not_settle_on_the_network_is_not_asked(
    chain, both, shopper, monkeypatch
) -> None:
    first, second = both
    kinds = [{"x402Version": 2, "scheme": "exact", "network": "eip155:1"}]
    monkeypatch.setattr(first, "_supported", lambda: {"kinds": kinds})
    assert shopper.pay("GET", "/weather/").status_code == 200
    assert (asked(first), asked(second)) == ((0, 0), (1, 1))


def test_one_that_says_the_network_is_not_its_own_is_passed_over(chain, both, monkeypatch) -> None:
    first, second = both
    monkeypatch.setattr(first, "_simulate", lambda body: "invalid_network")
    signed = sign(new_payer(chain, 1))
    assert get_facilitator("default").verified_by(signed).alias == "second"
    monkeypatch.setattr(second, "_simulate", lambda body: "invalid_network")
    with pytest.raises(PaymentRefused) as refused:
        get_facilitator("default").verified_by(signed)
    assert refused.value.code == "invalid_network"


# ------------------------------------------------------------------------- settling


@pytest.mark.parametrize(
    "mood", [Mood.ACCEPTS_THEN_TIMES_OUT, Mood.FAILS_AFTER_SETTLING, Mood.WRONG_PAYER]
)
def test_what_the_first_may_have_settled_is_never_sent_to_the_second(
    chain, both, shopper, mood
) -> None:
    first, second = both
    first.set_mood(mood, endpoint="settle")
    response = shopper.pay("GET", "/weather/")
    if response.status_code == 503:  # it had not settled yet when we looked
        response = shopper.get("/weather/", headers=shopper.last_headers)
    assert response.status_code == 200
    assert asked(second) == (0, 0)
    payment = Payment.objects.get()
    assert (payment.facilitator, payment.state) == ("first", "settled")
    assert chain.dollars(PAY_TO) == PRICE
    assert changes(payment) == []


@pytest.mark.parametrize(
    "mood",
    [
        Mood.CLOSES_CONNECTION,
        Mood.HANGS,
        Mood.LIES_ABOUT_SUCCESS,
        Mood.RATE_LIMITS,
        Mood.REDIRECTS,
        Mood.RETURNS_GARBAGE,
    ],
)
def test_what_the_first_may_yet_settle_stays_with_it(chain, both, shopper, mood) -> None:
    first, second = both
    first.set_mood(mood, endpoint="settle")
    assert shopper.pay("GET", "/weather/").status_code == 503
    confirm_pending_payments()
    assert shopper.get("/weather/", headers=shopper.last_headers).status_code == 503
    payment = Payment.objects.get()
    assert (payment.facilitator, payment.state) == ("first", "settling")
    assert asked(second) == (0, 0)
    assert chain.dollars(PAY_TO) == 0

    first.set_mood(Mood.HONEST)  # resolved with the first, and once
    confirm_pending_payments()
    confirm_pending_payments()  # the next run finds it deep enough
    payment.refresh_from_db()
    assert (payment.facilitator, payment.state) == ("first", "final")
    assert (chain.dollars(PAY_TO), asked(second)) == (PRICE, (0, 0))


def test_the_second_takes_over_where_nothing_was_sent(chain, both, shopper, monkeypatch) -> None:
    first, second = both
    written: list[tuple[str, str, bool]] = []
    settle = second._settle

    def remember(mood, call):
        # Seen by the facilitator, in another thread, over another connection to the database.
        payment = Payment.objects.get()
        written.append((payment.facilitator, payment.state, connection.in_atomic_block))
        connection.close()
        return settle(mood, call)

    monkeypatch.setattr(second, "_settle", remember)
    verify = BaseFacilitator.verified_by

    def verified_then_down(member, signed):
        holder = verify(member, signed)
        first.__exit__(None, None, None)  # nobody listens there any more, as after a crash
        return holder

    monkeypatch.setattr(BaseFacilitator, "verified_by", verified_then_down)
    assert shopper.pay("GET", "/weather/").status_code == 200
    assert asked(first) == (1, 0)
    assert asked(second) == (1, 1)  # it verifies before it settles
    assert written == [("second", "settling", False)]
    payment = Payment.objects.get()
    assert (payment.facilitator, payment.state) == ("second", "settled")
    assert changes(payment) == ["first sent nothing; second settles."]
    assert chain.dollars(PAY_TO) == PRICE


def settling(chain, **fields: object) -> tuple[Payment, object]:
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    for name, value in fields.items():
        setattr(payment, name, value)
    payment.save()
    return payment, signed


def test_after_an_unknown_outcome_nobody_else_is_asked(chain, second, use, nobody) -> None:
    use(nobody, second.url)
    payment, signed = settling(chain, facilitator="first")
    payment.outcome_unknown_at = payment.created_at
    with pytest.raises(FacilitatorUnavailable):
        get_facilitator("default").settle(signed, payment)
    assert asked(second) == (0, 0)
    assert Payment.objects.get().facilitator == "first"


def test_a_row_that_another_worker_took_is_not_sent_on(chain, second, use, nobody) -> None:
    use(nobody, second.url)
    payment, signed = settling(chain, facilitator="first")
    Payment.objects.update(attempt=payment.attempt + 1)
    with pytest.raises(InvalidTransition):
        get_facilitator("default").settle(signed, payment)
    assert asked(second) == (1, 0)
    assert (payment.facilitator, Payment.objects.get().facilitator) == ("first", "first")


def test_a_row_that_names_nobody_yet_is_written_before_the_first_is_asked(chain, both) -> None:
    first, _ = both
    payment, signed = settling(chain, facilitator="default")
    get_facilitator("default").settle(signed, payment)
    assert asked(first) == (1, 1)
    assert Payment.objects.get().facilitator == "first"
    assert changes(payment) == ["default sent nothing; first settles."]


def test_a_second_that_refuses_gets_nothing_to_settle(
    chain, second, use, nobody, monkeypatch
) -> None:
    use(nobody, second.url)
    monkeypatch.setattr(second, "_simulate", lambda body: "invalid_network")
    payment, signed = settling(chain, facilitator="first")
    with pytest.raises(FacilitatorUnavailable):
        get_facilitator("default").settle(signed, payment)
    assert asked(second) == (1, 0)
    assert Payment.objects.get().facilitator == "first"


def test_silence_of_the_second_is_final_too(chain, second, use, nobody) -> None:
    use(nobody, second.url, patience=2)
    second.set_mood(Mood.HANGS, endpoint="settle")
    payment, signed = settling(chain, facilitator="first")
    with pytest.raises(SettlementUnknown):
        get_facilitator("default").settle(signed, payment)
    assert Payment.objects.get().facilitator == "second"


# -------------------------------------------------------------------------- breakers


def test_one_that_keeps_failing_is_asked_last(chain, first, second, use) -> None:
    use(first.url, second.url, FAILURES=2)
    facilitator = get_facilitator("default")
    first.set_mood(Mood.RATE_LIMITS)
    payers = [sign(new_payer(chain, 1)) for _ in range(4)]
    assert [facilitator.verified_by(signed).alias for signed in payers] == ["second"] * 4
    assert asked(first) == (2, 0)
    assert facilitator.breakers["first"].state is BreakerState.OPEN
    second.set_mood(Mood.RATE_LIMITS)  # now the first is asked all the same
    first.set_mood(Mood.HONEST)
    assert facilitator.verified_by(payers[0]).alias == "first"
    assert facilitator.breakers["first"].state is BreakerState.CLOSED


def test_after_the_cool_down_it_is_tried_again(chain, first, second, use, monkeypatch) -> None:
    use(first.url, second.url, FAILURES=1, COOL_DOWN=30)
    facilitator = get_facilitator("default")
    seconds = [1000.0]
    monkeypatch.setattr(facilitator.breakers["first"], "_monotonic", lambda: seconds[0])
    first.set_mood(Mood.RATE_LIMITS)
    signed = sign(new_payer(chain, 1))
    facilitator.verified_by(signed)
    first.set_mood(Mood.HONEST)
    assert facilitator.verified_by(signed).alias == "second"
    seconds[0] += 30 * 1.25
    assert facilitator.verified_by(signed).alias == "first"


def test_refusals_do_not_open_a_breaker(chain, first, second, use) -> None:
    use(first.url, second.url, FAILURES=1)
    facilitator = get_facilitator("default")
    with pytest.raises(PaymentRefused):
        facilitator.verified_by(sign(new_payer(chain, 0)))
    assert facilitator.breakers["first"].state is BreakerState.CLOSED


def test_provoked_failures_do_not_stop_the_site_from_selling(
    chain, first, second, use, shopper
) -> None:
    use(first.url, second.url, FAILURES=1)
    for hostile in (first, second):
        hostile.set_mood(Mood.RETURNS_GARBAGE)
    assert shopper.pay("GET", "/weather/").status_code == 503
    facilitator = get_facilitator("default")
    assert {b.state for b in facilitator.breakers.values()} == {BreakerState.OPEN}
    for hostile in (first, second):
        hostile.set_mood(Mood.HONEST)
    assert shopper.get("/weather/", headers=shopper.last_headers).status_code == 200


# --------------------------------------------------------------- what it says of itself


def test_it_starts_and_sells_while_supported_is_down(chain, both, shopper) -> None:
    for hostile in both:
        hostile.set_mood(Mood.RATE_LIMITS, endpoint="supported")
    assert shopper.pay("GET", "/weather/").status_code == 200
    with pytest.raises(FacilitatorUnavailable):
        get_facilitator("default").supported()


def test_it_supports_what_any_of_them_supports(both) -> None:
    first, _ = both
    first.set_mood(Mood.RATE_LIMITS, endpoint="supported")
    assert get_facilitator("default").supported() == {("exact", NETWORK)}


def test_it_is_as_trusted_as_the_least_trusted(settings) -> None:
    settings.X402 = {
        **x402_settings(),
        "FACILITATORS": {
            **x402_settings()["FACILITATORS"],
            "remote": {"BACKEND": REMOTE, "OPTIONS": {"URL": "https://f.example"}},
            "mixed": {"BACKEND": FAILOVER, "OPTIONS": {"FACILITATORS": ["default", "remote"]}},
            "own": {"BACKEND": FAILOVER, "OPTIONS": {"FACILITATORS": ["default"]}},
        },
    }
    mixed, own = get_facilitator("mixed"), get_facilitator("own")
    assert (mixed.trusted, mixed.needs_rpc, mixed.spends_gas) == (False, True, True)
    assert (own.trusted, own.needs_rpc, own.spends_gas) == (True, True, True)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"FACILITATORS": ["first", "second"]}, []),
        ({"FACILITATORS": ("first",), "FAILURES": 1, "COOL_DOWN": 0.5}, []),
        ({}, ["x402_django.E038"]),
        ({"FACILITATORS": []}, ["x402_django.E038"]),
        ({"FACILITATORS": "first"}, ["x402_django.E038"]),
        ({"FACILITATORS": [1]}, ["x402_django.E038"]),
        ({"FACILITATORS": ["first", "first"]}, ["x402_django.E038"]),
        ({"FACILITATORS": ["first", "default"]}, ["x402_django.E038"]),
        ({"FACILITATORS": ["first"], "FAILURES": 0}, ["x402_django.E038"]),
        ({"FACILITATORS": ["first"], "COOL_DOWN": "30"}, ["x402_django.E038"]),
        ({"FACILITATORS": ["first"], "ORDER": 1}, ["x402_django.E030"]),
    ],
)
def test_checks(use, options, ids) -> None:
    use("https://first.example", "https://second.example")
    made = failover.FailoverFacilitator("default", options)
    assert [message.id for message in made.check()] == ids
    if "x402_django.E038" in ids:
        with pytest.raises(ConfigurationError):
            made.verify(sign(new_payer(dev_chain(NETWORK), 0)))


def test_an_unknown_alias_is_named(settings) -> None:
    settings.X402 = {
        "FACILITATORS": {
            "default": {"BACKEND": FAILOVER, "OPTIONS": {"FACILITATORS": ["frist"]}},
        }
    }
    with pytest.raises(ConfigurationError, match="no entry for 'frist'"):
        get_facilitator("default")
