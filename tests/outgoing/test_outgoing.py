"""Outgoing webhooks: a purchase over HTTP, a receiver on the loopback, and the admin."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.outgoing.receiver import receiving
from x402_django import clock
from x402_django.models import (
    Membership,
    Merchant,
    Payment,
    Receipt,
    WebhookAttempt,
    WebhookCursor,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookMessage,
)
from x402_django.tasks import send_webhooks
from x402_django.webhooks import delivery, secrets, signing

pytestmark = pytest.mark.django_db(transaction=True)

#: The example of the Standard Webhooks specification's reference libraries.
VECTOR = (
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    1614265330,
    '{"test": 2432232314}',
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
)


@pytest.fixture
def receiver(settings):
    settings.X402 = {**settings.X402, "WEBHOOKS_ALLOW_PRIVATE": True}
    with receiving() as one:
        yield one


def endpoint_at(url, **fields):
    endpoint = WebhookEndpoint(name=fields.pop("name", "shop"), url=url, **fields)
    secret = secrets.give_secret(endpoint)
    endpoint.save()
    return endpoint, secret


def run():
    return [delivery.deliver(one) for one in delivery.sweep().due]


def test_signature_is_that_of_the_specification():
    secret, name, at, body, expected = VECTOR
    assert signing.headers(name, at, body, [secret])["webhook-signature"] == expected


def test_a_purchase_is_told_once_and_verifies(receiver, buyer):
    _, secret = endpoint_at(receiver.url)
    assert buyer.pay("GET", "/weather/?token=private").status_code == 200
    assert run() == [True, True]
    assert run() == []
    payment, receipt = Payment.objects.get(), Receipt.objects.get()
    told = {}
    for headers, body in receiver.got:
        message = Webhook(secret).verify(body, headers)
        told[message["type"]] = message["data"]
        assert b"private" not in body
        assert b"signature" not in body
    assert sorted(told) == ["payment.settled", "receipt.issued"]
    assert told["payment.settled"]["payment"] == payment.public_id
    assert told["payment.settled"]["amount"] == str(payment.amount)
    assert told["payment.settled"]["resource"] == "https://shop.example/weather/"
    assert told["receipt.issued"]["receipt"] == receipt.reference
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(receiver.got[0][1] + b" ", receiver.got[0][0])


def test_t26_a_sale_is_told_to_its_merchant_alone(receiver, buyer):
    bakery = Merchant.objects.create(name="Bakery")
    own, _ = endpoint_at(receiver.url, events=["receipt.issued"])
    endpoint_at(receiver.url, name="bread", merchant=bakery, events=["receipt.issued"])
    assert buyer.pay("GET", "/weather/").status_code == 200
    assert run() == [True]
    assert WebhookDelivery.objects.get().endpoint == own


def test_t26_members_see_and_change_their_endpoints_alone(receiver, buyer):
    bakery = Merchant.objects.create(name="Bakery")
    own, _ = endpoint_at(receiver.url, name="own")
    bread, _ = endpoint_at(receiver.url, name="bread", merchant=bakery)
    buyer.pay("GET", "/weather/")
    run()
    user = User.objects.create_user("baker", password="x", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(
            content_type__model__in=["webhookendpoint", "webhookdelivery", "webhookattempt"]
        )
    )
    Membership.objects.create(merchant=bakery, user=user)
    client = Client()
    client.force_login(user)
    lists = [
        list(client.get(reverse(f"admin:x402_django_{name}_changelist")).context["cl"].result_list)
        for name in ("webhookendpoint", "webhookdelivery")
    ]
    assert lists == [[bread], []]
    page = reverse("admin:x402_django_webhookendpoint_change", args=[own.pk])
    assert client.get(page).status_code == 302
    rotate = {"action": "rotate", "_selected_action": [own.pk]}
    sealed = own.sealed_secret
    client.post(reverse("admin:x402_django_webhookendpoint_changelist"), rotate)
    own.refresh_from_db()
    assert own.sealed_secret == sealed
    form = {"name": "mine", "url": receiver.url, "events": "[]", "is_active": "on"}
    add = reverse("admin:x402_django_webhookendpoint_add")
    assert client.post(add, {**form, "merchant": own.merchant_id}).status_code == 200
    assert client.post(add, form).status_code == 200  # the page with the secret
    assert WebhookEndpoint.objects.get(name="mine").merchant == bakery


def test_who_is_not_to_be_told_is_not(receiver, buyer):
    buyer.pay("GET", "/weather/")
    endpoint_at(receiver.url, events=["payment.final"])
    assert run() == []  # before the endpoint was entered
    buyer.pay("GET", "/weather/")
    assert run() == []  # not wanted
    WebhookEndpoint.objects.update(events=[], is_active=False)
    buyer.pay("GET", "/weather/")
    assert run() == []  # off
    assert WebhookMessage.objects.count() == 0


def test_a_row_that_appears_below_the_ones_read_is_told(receiver, buyer):
    """Keys are given before rows are committed: a late one is below the newest that was read."""
    endpoint_at(receiver.url, events=["payment.settled"])
    buyer.pay("GET", "/weather/")
    buyer.pay("GET", "/weather/")
    late, early = Payment.objects.order_by("pk")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE x402_django_paymentevent SET to_state = 'verified' "
            "WHERE payment_id = %s AND to_state = 'settled'",
            [late.pk],
        )
    delivery.sweep()
    assert WebhookMessage.objects.count() == 1
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE x402_django_paymentevent SET to_state = 'settled' "
            "WHERE payment_id = %s AND from_state = 'settling'",
            [late.pk],
        )
    delivery.sweep()
    told = [json.loads(one.body)["data"]["payment"] for one in WebhookMessage.objects.all()]
    assert sorted(told) == sorted([late.public_id, early.public_id])


def test_the_cursor_follows_at_a_distance(receiver, buyer):
    endpoint_at(receiver.url)
    buyer.pay("GET", "/weather/")
    delivery.sweep()
    assert set(WebhookCursor.objects.values_list("position", flat=True)) == {0}
    with clock.shifted(timedelta(minutes=6)):
        delivery.sweep()
        receipts = WebhookCursor.objects.get(subject="receipt")
        assert receipts.position == Receipt.objects.get().pk
        assert WebhookMessage.objects.count() == 2


def test_without_an_endpoint_a_sweep_writes_nothing(buyer):
    buyer.pay("GET", "/weather/")
    assert delivery.sweep().due == []
    assert not WebhookMessage.objects.exists()
    assert not WebhookCursor.objects.exists()


def test_both_secrets_sign_for_a_day_after_a_rotation(receiver, buyer):
    endpoint, old = endpoint_at(receiver.url, events=["payment.settled"])
    new = secrets.rotate(endpoint)
    buyer.pay("GET", "/weather/")
    run()
    for secret in (old, new):
        Webhook(secret).verify(receiver.got[0][1], receiver.got[0][0])
    with clock.shifted(timedelta(days=1, seconds=1)):
        assert secrets.in_force(endpoint) == [new]


def test_secrets_are_sealed_and_survive_a_new_secret_key(settings):
    endpoint, secret = endpoint_at("https://shop.example/hook")
    assert secret not in endpoint.sealed_secret
    assert secret.removeprefix("whsec_") not in endpoint.sealed_secret
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    assert secrets.in_force(endpoint) == [secret]


def test_failures_are_tried_again_on_the_schedule_and_given_up(receiver, buyer):
    endpoint_at(receiver.url, events=["payment.settled"])
    receiver.status, receiver.answer = 500, b"<b>no</b>" + b"x" * 10_000
    buyer.pay("GET", "/weather/")
    assert run() == [False]
    row = WebhookDelivery.objects.get()
    assert (row.state, row.attempts, row.last_status, row.last_error) == (
        "pending", 1, 500, "refused",
    )  # fmt: skip
    assert run() == []
    shift = timedelta(0)
    for seconds in delivery.SCHEDULE:
        shift += timedelta(seconds=seconds * 1.2 + 1)
        with clock.shifted(shift):
            assert run() == [False]
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("given_up", 8)
    assert WebhookAttempt.objects.count() == 8
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(WebhookAttempt.objects.first().answer) == 500
    receiver.status = 204
    assert delivery.send_again(WebhookDelivery.objects.all()) == 1
    assert run() == [True]
    assert WebhookEndpoint.objects.get().failing_since is None


def test_who_is_gone_or_fails_for_days_is_turned_off(receiver, buyer):
    endpoint, _ = endpoint_at(receiver.url, events=["payment.settled"])
    buyer.pay("GET", "/weather/")
    receiver.status = 410
    run()
    endpoint.refresh_from_db()
    assert (endpoint.is_active, endpoint.off_reason) == (False, "410 Gone")
    receiver.status = 500
    WebhookEndpoint.objects.update(
        is_active=True, failing_since=clock.now() - timedelta(days=5, minutes=1)
    )
    delivery.send_again(WebhookDelivery.objects.all())
    WebhookDelivery.objects.update(next_attempt_at=clock.now())
    run()
    endpoint.refresh_from_db()
    assert (endpoint.is_active, endpoint.off_reason) == (False, "refused")


def test_two_workers_send_once(receiver, buyer):
    endpoint_at(receiver.url, events=["payment.settled"])
    buyer.pay("GET", "/weather/")
    (due,) = delivery.sweep().due
    results = []

    def work():
        try:
            results.append(delivery.deliver(due))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results) == [False, False, False, True]
    assert len(receiver.got) == 1


def test_a_worker_that_dies_while_sending_loses_its_lease(receiver, buyer):
    endpoint_at(receiver.url, events=["payment.settled"])
    buyer.pay("GET", "/weather/")
    (due,) = delivery.sweep().due
    dead = delivery._take(due)
    assert run() == []
    with clock.shifted(delivery.LEASE + timedelta(seconds=1)):
        assert run() == [True]
    # It wakes and writes: the attempt is kept, the delivery stays what it became.
    delivery._record(dead, delivery.Answer(None, "timeout", 1))
    assert WebhookDelivery.objects.get().state == "delivered"


def test_the_task_hands_out_what_is_due(receiver, buyer):
    from celery import current_app

    endpoint_at(receiver.url, events=["payment.settled"])
    buyer.pay("GET", "/weather/")
    before = current_app.conf.task_always_eager
    current_app.conf.task_always_eager = True
    try:
        assert send_webhooks() == "messages written: 1, deliveries due: 1"
    finally:
        current_app.conf.task_always_eager = before
    assert len(receiver.got) == 1


def test_the_admin_shows_a_secret_once_and_sends_again(client, receiver, buyer):
    client.force_login(get_user_model().objects.create_superuser("boss"))
    form = {"name": "books", "url": receiver.url, "events": "[]", "is_active": "on"}
    page = client.post(reverse("admin:x402_django_webhookendpoint_add"), form)
    secret = page.context["secret"]
    assert secret.startswith("whsec_")
    assert "no-store" in page["Cache-Control"]
    endpoint = WebhookEndpoint.objects.get()
    change = reverse("admin:x402_django_webhookendpoint_change", args=[endpoint.pk])
    assert secret not in client.get(change).content.decode()
    receiver.answer = b"<script>alert(1)</script>"
    buyer.pay("GET", "/weather/")
    assert run() == [True, True]
    Webhook(secret).verify(receiver.got[0][1], receiver.got[0][0])
    row = WebhookDelivery.objects.first()
    log = client.get(reverse("admin:x402_django_webhookdelivery_change", args=[row.pk]))
    assert b"<script>alert(1)" not in log.content
    assert b"&lt;script&gt;alert(1)" in log.content
    changelist = reverse("admin:x402_django_webhookdelivery_changelist")
    chosen = {"action": "send_again", "_selected_action": [row.pk]}
    assert client.post(changelist, chosen).status_code == 302
    assert run() == [True]
    rotate = {"action": "rotate", "_selected_action": [endpoint.pk]}
    rotated = client.post(reverse("admin:x402_django_webhookendpoint_changelist"), rotate)
    assert rotated.context["secret"] not in ("", secret)


def test_messages_that_nobody_waits_for_are_emptied(receiver, buyer, capsys):
    endpoint_at(receiver.url, events=["receipt.issued"])
    endpoint_at(receiver.url, name="slow", events=["payment.settled"])
    buyer.pay("GET", "/weather/")
    receiver.status = 500
    assert run() == [False, False]
    delivered = WebhookDelivery.objects.get(endpoint__name="shop")
    receiver.status = 204
    with clock.shifted(timedelta(hours=1)):
        assert delivery.deliver(delivered.pk)

    def prune(days):
        with clock.shifted(timedelta(days=days)):
            call_command("x402_prune", webhooks_after=90)
        return capsys.readouterr().out.strip().rpartition(": ")[2]

    assert prune(89) == "0"
    assert prune(91) == "1"
    assert prune(91) == "0"
    emptied, waiting = (
        WebhookMessage.objects.get(deliveries__endpoint__name=name) for name in ("shop", "slow")
    )
    assert (emptied.body, waiting.body != "") == ("", True)
    assert [one.delivery.message for one in WebhookAttempt.objects.all()] == [waiting]
    assert run() == []  # it is not written anew
    assert delivery.send_again(WebhookDelivery.objects.all()) == 0
    # One that is queued while its message is emptied:
    before = len(receiver.got)
    WebhookDelivery.objects.filter(pk=delivered.pk).update(
        state="pending", next_attempt_at=clock.now()
    )
    assert run() == [False]
    assert (len(receiver.got), WebhookDelivery.objects.get(pk=delivered.pk).last_error) == (
        before,
        "pruned",
    )
