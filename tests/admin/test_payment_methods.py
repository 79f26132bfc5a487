"""The form of a payment method: known tokens, checked addresses, configured networks."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.rows import NETWORK, PAY_TO, PAYER, USDC, make_method
from x402_django.models import PaymentMethod

ADD = "admin:x402_django_paymentmethod_add"
BASE_USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


def form(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "Dollars",
        "active": "on",
        "priority": "0",
        "known_token": "",
        "network": NETWORK,
        "asset": USDC,
        "asset_symbol": "USDC",
        "asset_name": "USDC",
        "asset_version": "2",
        "asset_decimals": "6",
        "pay_to": PAY_TO,
        "facilitator": "default",
        "scheme": "exact",
        "transfer_method": "eip3009",
    }
    return {**values, **changes}


def empty_token() -> dict[str, str]:
    names = ("network", "asset", "asset_symbol", "asset_name", "asset_version", "asset_decimals")
    return dict.fromkeys(names, "")


def errors(client: Client, **changes: Any) -> dict[str, list[str]]:
    answer = client.post(reverse(ADD), form(**changes))
    assert answer.status_code == 200
    assert PaymentMethod.objects.count() == 0
    found: dict[str, list[str]] = answer.context["adminform"].form.errors
    return found


def test_a_token_of_ones_own(desk: Client) -> None:
    assert desk.post(reverse(ADD), form()).status_code == 302
    method = PaymentMethod.objects.get()
    assert (method.network, method.asset, method.asset_decimals) == (NETWORK, USDC, 6)


def test_a_known_token_fills_in_everything_it_decides(desk: Client) -> None:
    chosen = form(known_token=f"{NETWORK}/{USDC}", **empty_token())
    assert desk.post(reverse(ADD), chosen).status_code == 302
    method = PaymentMethod.objects.get()
    assert method.network == NETWORK
    assert method.asset == USDC
    assert method.asset_symbol == "USDC"
    assert method.asset_name == "USDC"
    assert method.asset_version == "2"
    assert method.asset_decimals == 6


def test_a_token_chosen_now_wins_over_what_stood_below(desk: Client) -> None:
    chosen = form(known_token=f"{NETWORK}/{USDC}", asset=PAYER, asset_decimals="18", asset_name="")
    assert desk.post(reverse(ADD), chosen).status_code == 302
    assert PaymentMethod.objects.get().asset_decimals == 6


def test_what_was_typed_wins_over_a_token_that_merely_stood_there(desk: Client) -> None:
    method = make_method()
    url = reverse("admin:x402_django_paymentmethod_change", args=[method.pk])
    typed = form(known_token=f"{NETWORK}/{USDC}", asset=PAYER, asset_decimals="18")
    assert desk.post(url, typed).status_code == 302
    method.refresh_from_db()
    assert (method.asset, method.asset_decimals) == (PAYER, 18)


def test_tokens_are_offered_by_name_the_configured_networks_first(desk: Client) -> None:
    html = desk.get(reverse(ADD)).content.decode()
    ours = html.index("USDC on Base Sepolia (eip155:84532)")
    others = html.index("On networks that the settings do not have yet")
    assert ours < others < html.index("USDC on Base (eip155:8453)")
    assert f'data-asset="{USDC}"' in html
    assert 'data-asset-decimals="6"' in html


def test_a_changed_row_shows_its_known_token(desk: Client) -> None:
    method = make_method()
    url = reverse("admin:x402_django_paymentmethod_change", args=[method.pk])
    assert desk.get(url).context["adminform"].form.initial["known_token"] == f"{NETWORK}/{USDC}"


def test_the_payee_of_the_settings_is_proposed(desk: Client) -> None:
    assert f'value="{PAY_TO}"' in desk.get(reverse(ADD)).content.decode()


@pytest.mark.parametrize("address", [PAYER.lower(), "0x" + PAYER[2:].upper(), PAYER])
def test_addresses_are_stored_checksummed(address: str, desk: Client) -> None:
    assert desk.post(reverse(ADD), form(pay_to=address, asset=USDC.lower())).status_code == 302
    method = PaymentMethod.objects.get()
    assert (method.pay_to, method.asset) == (PAYER, USDC)


@pytest.mark.parametrize("field", ["pay_to", "asset"])
def test_a_wrong_checksum_is_refused_with_the_right_form(field: str, desk: Client) -> None:
    wrong = PAYER.replace("cC", "cc").replace("CdD", "Cdd")
    assert wrong != PAYER
    (sentence,) = errors(desk, **{field: wrong})[field]
    assert f"write it as {PAYER}." in sentence


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"pay_to": "0x" + "0" * 40}, "pay_to", "zero address"),
        ({"asset": "0x" + "0" * 40}, "asset", "zero address"),
        ({"pay_to": USDC}, "pay_to", "token contract itself"),
        ({"pay_to": USDC.lower()}, "pay_to", "token contract itself"),
        ({"pay_to": "0x12"}, "pay_to", "40 hexadecimal digits"),
        ({"pay_to": ""}, "pay_to", "required"),
        ({"network": "base"}, "network", "CAIP-2"),
        ({"asset_name": ""}, "asset_name", "required"),
        ({"asset_decimals": ""}, "asset_decimals", "required"),
        ({"facilitator": "nobody"}, "facilitator", "not one of the available"),
    ],
)
def test_refused(changes: dict[str, str], field: str, part: str, desk: Client) -> None:
    found = errors(desk, **changes)
    assert list(found) == [field]
    assert part in found[field][0]


def test_an_unknown_network_is_told_what_to_add(desk: Client) -> None:
    known_token = f"eip155:8453/{BASE_USDC}"
    found = errors(desk, known_token=known_token, **empty_token())
    assert list(found) == ["network"]
    assert found["network"] == [
        "This site does not have Base (eip155:8453). Add to the settings: "
        'X402["NETWORKS"]["eip155:8453"] = {"RPC_URLS": ["https://…"]}'
    ]


def test_a_facilitator_that_is_gone_from_the_settings(desk: Client) -> None:
    method = make_method(facilitator="old")
    url = reverse("admin:x402_django_paymentmethod_change", args=[method.pk])
    assert "old (no longer in the settings)" in desk.get(url).content.decode()
    answer = desk.post(url, form(facilitator="old"))
    assert "no entry “old” any more" in answer.content.decode()


def test_staff_who_may_only_look_sees_the_row(staff: Any) -> None:
    method = make_method()
    clerk = staff("view_paymentmethod")
    url = reverse("admin:x402_django_paymentmethod_change", args=[method.pk])
    assert clerk.get(url).status_code == 200
    assert clerk.post(url, form(name="Mine")).status_code == 403
    assert clerk.get(reverse("admin:x402_django_paymentmethod_changelist")).status_code == 200


def test_the_list_says_which_rows_the_settings_support(desk: Client) -> None:
    make_method()
    make_method(name="Gone", network="eip155:1")
    html = desk.get(reverse("admin:x402_django_paymentmethod_changelist")).content.decode()
    assert html.count("icon-yes.svg") == 3  # active twice, in the settings once
    assert html.count("icon-no.svg") == 1


def test_transfer_proofs_are_switched_on_per_method(desk: Client) -> None:
    assert desk.post(reverse(ADD), form(transfer_proofs="on")).status_code == 302
    assert PaymentMethod.objects.get().transfer_proofs is True


def test_transfer_proofs_are_off_unless_chosen(desk: Client) -> None:
    assert desk.post(reverse(ADD), form()).status_code == 302
    assert PaymentMethod.objects.get().transfer_proofs is False


def test_transfer_proofs_need_a_network_that_can_be_read(desk: Client, settings: Any) -> None:
    settings.X402 = {**settings.X402, "NETWORKS": {NETWORK: {}}}
    found = errors(desk, transfer_proofs="on")
    assert list(found) == ["transfer_proofs"]
    assert f'RPC_URLS to X402["NETWORKS"]["{NETWORK}"]' in found["transfer_proofs"][0]


def test_one_token_may_be_paid_in_two_ways(desk: Client) -> None:
    assert desk.post(reverse(ADD), form()).status_code == 302
    again = form(name="Dollars by Permit2", transfer_method="permit2")
    assert desk.post(reverse(ADD), again).status_code == 302
    assert list(PaymentMethod.objects.order_by("pk").values_list("transfer_method", flat=True)) == [
        "eip3009",
        "permit2",
    ]
    assert desk.post(reverse(ADD), {**again, "name": "Once more"}).status_code == 200
    assert PaymentMethod.objects.count() == 2
