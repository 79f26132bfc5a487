"""``python -m tests.browser.desk_rows``: one of everything that the seed does not make.

Beside made-up payments, in a database of the demo, and a login ``owner``; says the address of
each admin page that there is to look at, a line each.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Any


def main() -> None:
    """Make the rows, and print the pages."""
    import django

    django.setup()
    from django.contrib.auth.models import User

    owner = User.objects.create_superuser("owner", password="owner")
    _holdings()
    _refunds(User.objects.create_user("clerk"))
    _service()
    _webhooks()
    _channels()
    for page in _pages(owner):
        print(page)


def _holdings() -> None:
    from django.utils import timezone

    from x402_django.models import CreditAccount, CreditEntry, HoldingUse, Pass, Payment, PriceRule

    now = timezone.now()
    sold = list(Payment.objects.filter(state="final").order_by("-pk")[:3])
    rule = PriceRule.objects.first()
    of = {"merchant_id": sold[0].merchant_id}
    day = Pass.objects.create(
        payment=sold[0], payer=sold[0].payer, uses=20, uses_taken=1, created_at=now,
        expires_at=now + timedelta(days=1), **of,
    )  # fmt: skip
    Pass.objects.create(
        payment=sold[1], payer=sold[1].payer, created_at=now - timedelta(days=9), revoked_at=now,
        expires_at=now - timedelta(days=8), **of,
    )  # fmt: skip
    account = CreditAccount.objects.create(
        payer=sold[2].payer, network=sold[2].network, balance=4_990_000, created_at=now, **of
    )
    use: dict[str, Any] = {
        "merchant_id": of["merchant_id"], "rule": rule, "rule_name": rule.name if rule else "",
        "request_method": "GET", "request_fingerprint": "0" * 64, "started_at": now,
        "resource_url": "https://shop.example/articles/what-is-x402/", "ended_at": now,
        "state": HoldingUse.State.CHARGED, "response_status": 200,
    }  # fmt: skip
    HoldingUse.objects.create(sold_pass=day, **use)
    spent = HoldingUse.objects.create(
        account=account, held=10_000, charged=10_000, unit_price_usd=Decimal("0.01"), **use
    )
    kinds = CreditEntry.Kind
    CreditEntry.objects.create(
        account=account, at=now, kind=kinds.TOP_UP, amount=5_000_000, balance=5_000_000,
        payment=sold[2],
    )  # fmt: skip
    CreditEntry.objects.create(
        account=account, at=now, kind=kinds.SPENT, amount=-10_000, balance=4_990_000, use=spent
    )


def _refunds(clerk: Any) -> None:
    from django.utils import timezone

    from x402_django.models import Alert, Payment, Refund, RefundReceipt
    from x402_django.payments.refunds.requesting import request_refund

    first, second = Payment.objects.filter(state="final", receipt__isnull=False).order_by("pk")[:2]
    waiting = request_refund(first, 1, user=clerk, reason="The forecast was of yesterday.")
    Refund.objects.filter(pk=waiting.pk).update(state=Refund.State.REQUESTED)
    refund = request_refund(second, 1, user=clerk)
    copied = (
        "merchant_id", "network", "asset", "asset_symbol", "asset_decimals", "amount",
        "price_usd", "payer", "reason",
    )  # fmt: skip
    RefundReceipt.objects.create(
        **{name: getattr(refund, name) for name in copied},
        refund=refund, reference="RF1", issued_at=timezone.now(), sender=second.pay_to,
        transaction="0x" + "ab" * 32, resource_url="https://shop.example/api/forecast/",
    )  # fmt: skip
    now = timezone.now()
    Alert.objects.create(
        name="wallet_low:eip155:8453", opened_at=now, told_at=now,
        sentence="The wallet 0xf39F…2266 on Base can pay for about 40 more transactions.",
    )  # fmt: skip
    Alert.objects.create(
        name="facilitator:default", opened_at=now - timedelta(hours=3), closed_at=now,
        sentence="The facilitator default was out of reach.",
    )  # fmt: skip


def _service() -> None:
    from django.utils import timezone

    from x402_django.models import FacilitatorKey, ListedResource, Payment

    now = timezone.now()
    key = FacilitatorKey.objects.create(
        name="Weather shop", prefix="x402_live_ab12", created_at=now,
        digest=hashlib.sha256(b"a key").hexdigest(), origins=["https://weather.example"],
    )  # fmt: skip
    settled = Payment.objects.filter(state="failed")[:1].get()
    Payment.objects.filter(pk=settled.pk).update(kind=Payment.Kind.SERVICE, service_key=key)
    ListedResource.objects.create(
        key=key, url="https://weather.example/forecast", x402_version=2, first_paid_at=now,
        last_paid_at=now, accepts=[{"scheme": "exact", "network": "eip155:8453"}],
    )  # fmt: skip


def _webhooks() -> None:
    from django.utils import timezone

    from x402_django.models import (
        Merchant,
        WebhookAttempt,
        WebhookDelivery,
        WebhookEndpoint,
        WebhookMessage,
    )
    from x402_django.webhooks.secrets import give_secret

    now = timezone.now()
    endpoint = WebhookEndpoint(
        name="Bookkeeping", url="https://books.example/x402", events=["receipt.issued"],
        merchant=Merchant.objects.first(), created_at=now,
    )  # fmt: skip
    give_secret(endpoint)
    endpoint.save()
    for number, (state, status) in enumerate((("delivered", 204), ("given_up", 500))):
        message = WebhookMessage.objects.create(
            message_id=f"msg_{number}", event_type="receipt.issued", subject="receipt",
            subject_id=number + 1, body='{"type": "receipt.issued"}', created_at=now,
        )  # fmt: skip
        delivery = WebhookDelivery.objects.create(
            message=message, endpoint=endpoint, state=state, attempts=1, next_attempt_at=now,
            last_status=status,
        )  # fmt: skip
        WebhookAttempt.objects.create(
            delivery=delivery, at=now, status=status, milliseconds=84, answer="ok"
        )


def _channels() -> None:
    from django.utils import timezone

    from x402_django.models import (
        ChainTransaction,
        ChannelClaim,
        ChannelClaimItem,
        ChannelUse,
        Payment,
        PaymentChannel,
    )

    now = timezone.now()
    sold = list(Payment.objects.filter(state="final").order_by("pk")[3:6])
    first = sold[0]
    channel = PaymentChannel.objects.create(
        network=first.network, channel_id="0x" + "c1" * 32, payer=first.payer,
        payer_authorizer=first.payer, pay_to=first.pay_to, receiver_authorizer=first.pay_to,
        asset=first.asset, asset_symbol=first.asset_symbol, asset_decimals=first.asset_decimals,
        withdraw_delay=3600, salt="0x" + "0" * 64, facilitator="default", balance=100_000,
        charged=30_000, claimed=20_000, signed_maximum=30_000, signature="0x" + "5a" * 65,
        unclaimed_since=now, withdrawal_at=now, created_at=now, used_at=now, read_at=now,
        transaction="0x" + "cd" * 32,
    )  # fmt: skip
    for number, payment in enumerate(sold, start=1):
        ChannelUse.objects.create(payment=payment, channel=channel, cumulative=10_000 * number)
    claim = ChannelClaim.objects.create(
        state=ChannelClaim.State.FINAL, network=first.network, pay_to=first.pay_to,
        asset=first.asset, asset_symbol=first.asset_symbol, asset_decimals=first.asset_decimals,
        amount=20_000, moved=20_000, transaction="0x" + "ef" * 32, block_number=123,
        created_at=now, chain_transaction=ChainTransaction.objects.order_by("pk").first(),
    )  # fmt: skip
    ChannelClaimItem.objects.create(claim=claim, channel=channel, before=0, up_to=20_000)


def _pages(owner: Any) -> list[str]:
    from django.contrib import admin
    from django.test import RequestFactory
    from django.urls import reverse

    from x402_django.models import Payment, Refund

    request = RequestFactory().get("/admin/")
    request.user = owner
    pages = [
        "/admin/", "/admin/x402_django/", "/admin/x402_django/pricerule/try/",
        "/admin/x402_django/receipt/export/",
    ]  # fmt: skip
    for model, desk in admin.site._registry.items():
        if model._meta.app_label != "x402_django":
            continue
        name = f"admin:x402_django_{model._meta.model_name}"
        pages.append(reverse(f"{name}_changelist"))
        if desk.has_add_permission(request):
            pages.append(reverse(f"{name}_add"))
        row = desk.get_queryset(request).order_by("-pk").first()
        if row is None:
            raise LookupError(f"There is no {model.__name__} to look at.")
        if model.__name__ == "Desk":
            continue  # one page, of sums
        pages += [reverse(f"{name}_{page}", args=[row.pk]) for page in ("change", "history")]
        if desk.has_delete_permission(request, row):
            pages.append(reverse(f"{name}_delete", args=[row.pk]))
    payment = Payment.objects.filter(state="final", refunds__isnull=True)[:1].get()
    pages.append(reverse("admin:x402_django_payment_refund", args=[payment.pk]))
    waiting = Refund.objects.get(state="requested")
    pages.append(reverse("admin:x402_django_refund_change", args=[waiting.pk]))
    return pages


if __name__ == "__main__":
    main()
