"""What a request costs the database, counted in statements."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

pytestmark = pytest.mark.django_db(transaction=True)


def statements(context: CaptureQueriesContext) -> list[str]:
    """The SQL that was sent, without transaction control."""
    control = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    return [q["sql"] for q in context.captured_queries if not q["sql"].startswith(control)]


def test_a_challenge_costs_no_query(client):
    client.get("/weather/")  # reads the rules
    with CaptureQueriesContext(connection) as context:
        assert client.get("/weather/").status_code == 402
    assert context.captured_queries == []


def test_a_free_view_costs_no_query(client):
    client.get("/free/")
    with CaptureQueriesContext(connection) as context:
        assert client.get("/free/").status_code == 200
    assert statements(context) == []


def test_a_paid_request_costs_six_statements_at_most(client, payer):
    headers = payer.headers_for(client.get("/weather/"))
    with CaptureQueriesContext(connection) as context:
        assert client.get("/weather/", headers=headers).status_code == 200
    sent = statements(context)
    if connection.vendor == "postgresql":
        # The claim, "settling" and "settled", each with its events: three round trips.
        assert [sql.split()[0] for sql in sent] == ["INSERT", "WITH", "WITH"]
        assert len(context) == 3
        return
    assert [sql.split()[0] for sql in sent] == [
        "INSERT",  # the claim, which also looks for debts
        "UPDATE",  # settling
        "INSERT",  # two events
        "UPDATE",  # settled, with the stored response
        "INSERT",  # one event
        "INSERT",  # the receipt
    ]


def test_a_replay_costs_three_statements(client, payer):
    headers = payer.headers_for(client.get("/weather/"))
    client.get("/weather/", headers=headers)
    with CaptureQueriesContext(connection) as context:
        assert client.get("/weather/", headers=headers).status_code == 200
    assert len(statements(context)) == 3
