"""What is on disk when the database server itself fails, and what is not.

A process that dies loses nothing that it has committed. These tests pull the plug of PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import dj_database_url
import pytest
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import load_backend

from tests.conftest import missing_service
from tests.models.postgres_server import Server, binaries, running_server
from tests.payments.support import ago, facts, quote, signed_payment, snapshot, unsaved
from x402_django import clock
from x402_django.exceptions import InvalidTransition
from x402_django.models import Payment, PaymentEvent
from x402_django.models.exposure import exposure_guard
from x402_django.models.statements import flush, move
from x402_django.payments.claims import claim
from x402_django.payments.machine import Step, advance, annotate, take_over

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def server(django_db_setup: None, django_db_blocker) -> Iterator[Server]:
    programs = binaries()
    if programs is None:
        missing_service("PostgreSQL's initdb", "install the server, not only its client")
    previous = connections[DEFAULT_DB_ALIAS]
    with running_server(programs) as server, django_db_blocker.unblock():
        values = {**previous.settings_dict, "OPTIONS": {}, **dj_database_url.parse(server.url)}
        values["CONN_MAX_AGE"] = None
        backend = load_backend(values["ENGINE"])
        connections[DEFAULT_DB_ALIAS] = backend.DatabaseWrapper(values, DEFAULT_DB_ALIAS)
        try:
            call_command("migrate", "x402_django", verbosity=0)
            yield server
        finally:
            connections[DEFAULT_DB_ALIAS].close()
            connections[DEFAULT_DB_ALIAS] = previous


def power_cut(server: Server) -> None:
    server.crash()
    connections[DEFAULT_DB_ALIAS].close()
    server.start()


def trailing_claim() -> Payment:
    """A claim through the ledger, of a payment that nobody but us sees (``InstantFacilitator``)."""
    return claim(signed_payment(), quote(), facts()).payment


def lost_claim(server: Server) -> Payment:
    """A claim of which nothing is left: it counted, and the server failed before it was on disk."""
    for _ in range(5):
        payment = trailing_claim()
        assert Payment.objects.filter(pk=payment.pk).exists()  # to everybody, at once
        power_cut(server)
        if not Payment.objects.exists():
            return payment
        Payment.objects.all().delete()  # the log's page was full, and full pages are written
    raise AssertionError("Five claims that do not wait for the disk were all on it.")


def test_a_claim_that_trails_is_lost_with_all_that_would_have_followed(server) -> None:
    lost = lost_claim(server)
    # Where the log ends, so does the sequence: the key may be another payment's now.
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('x402_django_payment', 'id'), %s, false)",
            [lost.pk],
        )
    stranger = trailing_claim()
    assert stranger.pk == lost.pk
    before = snapshot()
    # Whoever still holds the lost one cannot touch it.
    with pytest.raises(InvalidTransition):
        advance(lost, Step("verified"), actor="test")
    assert not annotate(lost, description="not mine")
    assert not take_over(lost)
    assert snapshot() == before
    assert not PaymentEvent.objects.exists()


def test_the_next_commit_of_the_payment_takes_its_claim_along(server) -> None:
    payment = trailing_claim()
    advance(payment, Step("verified"), Step("settling"), actor="test")  # before money is asked for

    power_cut(server)

    read = Payment.objects.get()
    assert (read.public_id, read.state) == (payment.public_id, "settling")
    assert read.events.count() == 2


def test_a_claim_that_a_stranger_is_shown_does_not_trail(server) -> None:
    new = unsaved()
    assert Payment.objects.claim(new, settling_before=ago(100)) is True

    power_cut(server)

    assert Payment.objects.get().public_id == new.public_id


@pytest.mark.parametrize("total", [None, Decimal(100)])
def test_what_is_delivered_on_trust_is_on_disk_before_it_leaves(server, total) -> None:
    payment = trailing_claim()
    connection = connections[DEFAULT_DB_ALIAS]
    guard = exposure_guard(
        payment, Decimal("0.01"), connection=connection, per_payer=Decimal(1), total=total,
        min_settled=0, failed_since=clock.now() - timedelta(days=1),
    )  # fmt: skip
    assert guard.contended is (total is not None)
    values = {"state": "verified", "delivered_at": clock.now()}
    assert move(DEFAULT_DB_ALIAS, payment, values, [], guard) is True

    power_cut(server)

    read = Payment.objects.get()
    assert (read.public_id, read.state) == (payment.public_id, "verified")
    assert read.delivered_at is not None


def test_a_replay_waits_for_what_another_request_has_just_committed(server) -> None:
    payment = trailing_claim()
    flush(DEFAULT_DB_ALIAS)

    power_cut(server)

    assert Payment.objects.get().public_id == payment.public_id
