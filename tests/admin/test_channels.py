"""Payment channels in the admin: what was deposited, spent and claimed; and the form for them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from tests.chain.channels import ChannelBuyer, offer_channels
from tests.chain.support import NETWORK, x402_settings
from tests.settings import PAY_TO
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.models import (
    ChannelClaim,
    Membership,
    Merchant,
    Payment,
    PaymentChannel,
    PaymentMethod,
)
from x402_django.payments.claiming import claim_channels
from x402_django.testing.chain import dev_chain, reset_dev_chains

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(settings):
    reset_dev_chains()
    settings.X402 = x402_settings()
    offer_channels()
    buyer = ChannelBuyer()
    for _ in range(3):
        assert buyer.buy().status_code == 200
    yield dev_chain(NETWORK)
    reset_dev_chains()


def page(client: Client, model: str, pk: int | None = None) -> str:
    name = f"admin:x402_django_{model}_" + ("changelist" if pk is None else "change")
    response = client.get(reverse(name, args=[] if pk is None else [pk]))
    assert response.status_code == 200
    return response.content.decode()


def test_a_channel_shows_what_is_deposited_spent_and_left(shop, admin_client):
    channel = PaymentChannel.objects.get()
    for shown in (
        page(admin_client, "paymentchannel"),
        page(admin_client, "paymentchannel", channel.pk),
    ):
        assert "0.10 TUSD" in shown
        assert "0.03 TUSD" in shown
        assert channel.signature not in shown
    one = page(admin_client, "paymentchannel", channel.pk)
    assert "0.07 TUSD" in one
    for payment in Payment.objects.all():
        assert reverse("admin:x402_django_payment_change", args=[payment.pk]) in one
    bought = Payment.objects.latest("pk")
    shown = page(admin_client, "payment", bought.pk)
    assert "in escrow" in shown
    assert reverse("admin:x402_django_paymentchannel_change", args=[channel.pk]) in shown


def test_a_claim_shows_what_it_moved_and_from_where(shop, admin_client):
    claim_channels(everything=True)
    shop.mine(2)
    claim_channels()
    claim = ChannelClaim.objects.get()
    assert "arrived" in page(admin_client, "channelclaim")
    one = page(admin_client, "channelclaim", claim.pk)
    assert one.count("0.03 TUSD") == 3  # the claim, what moved, its one channel
    shown = page(admin_client, "payment", Payment.objects.latest("pk").pk)
    assert "in escrow" not in shown
    assert claim.transaction in shown


@pytest.mark.parametrize("model", ["paymentchannel", "channelclaim"])
def test_nobody_edits_them(shop, admin_client, model):
    claim_channels(everything=True)
    row = (PaymentChannel if model == "paymentchannel" else ChannelClaim).objects.get()
    assert admin_client.get(reverse(f"admin:x402_django_{model}_add")).status_code == 403
    change = reverse(f"admin:x402_django_{model}_change", args=[row.pk])
    assert admin_client.post(change, {"charged": "0"}).status_code == 403
    assert admin_client.post(change.replace("change", "delete")).status_code == 403


def test_they_are_found_by_payer_and_by_name(shop, admin_client):
    channel = PaymentChannel.objects.get()
    url = reverse("admin:x402_django_paymentchannel_changelist")
    for term, found in ((channel.payer, 1), (channel.channel_id, 1), ("0x" + "1" * 40, 0)):
        listed = admin_client.get(url, {"q": term}).context["cl"].result_list
        assert len(listed) == found


def test_t26_a_member_of_another_merchant_sees_none(shop):
    other = Merchant.objects.create(name="Other")
    member = User.objects.create_user("member", password="x", is_staff=True)
    codes = ["view_paymentchannel", "view_channelclaim"]
    member.user_permissions.set(Permission.objects.filter(codename__in=codes))
    Membership.objects.create(merchant=other, user=member)
    claim_channels(everything=True)
    client = Client()
    client.force_login(member)
    for model, row in (
        ("paymentchannel", PaymentChannel.objects.get()),
        ("channelclaim", ChannelClaim.objects.get()),
    ):
        change = reverse(f"admin:x402_django_{model}_change", args=[row.pk])
        assert client.get(change).status_code in (302, 403)
        listed = client.get(reverse(f"admin:x402_django_{model}_changelist"))
        assert listed.status_code == 403 or not listed.context["cl"].result_list


def form(**changes):
    return {
        "name": "Channels", "active": "on", "priority": "0", "network": NETWORK,
        "asset": TOKEN_ADDRESS, "asset_symbol": "TUSD", "asset_name": "Test Dollar",
        "asset_version": "1", "asset_decimals": "6", "pay_to": PAY_TO, "facilitator": "default",
        "scheme": "batch-settlement", "transfer_method": "eip3009", "sponsoring": "", **changes,
    }  # fmt: skip


def test_the_form_takes_channels_and_their_only_transfer_method(settings, admin_client):
    settings.X402 = x402_settings()
    url = reverse("admin:x402_django_paymentmethod_add")
    response = admin_client.post(url, form())
    assert response.status_code == 302, response.context["adminform"].form.errors
    row = PaymentMethod.objects.get()
    assert (row.scheme, row.transfer_method) == ("batch-settlement", "channel")


def test_the_form_wants_a_wallet_that_can_claim(settings, admin_client):
    remote = {
        "BACKEND": "x402_django.facilitators.RemoteFacilitator",
        "OPTIONS": {"URL": "https://facilitator.example"},
    }
    settings.X402 = {**x402_settings(), "FACILITATORS": {"default": remote}}
    response = admin_client.post(reverse("admin:x402_django_paymentmethod_add"), form())
    (error,) = response.context["adminform"].form.errors["facilitator"]
    assert error.startswith("Payment channels are claimed from by a wallet of this site.")
    response = admin_client.post(
        reverse("admin:x402_django_paymentmethod_add"),
        form(scheme="exact", transfer_method="channel"),
    )
    assert "needs the transfer method Channel" in str(response.context["adminform"].form.errors)
    assert not PaymentMethod.objects.exists()
