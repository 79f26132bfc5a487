"""Payments, events, receipts, chain transactions and wallets: to look at, never to edit."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse

from tests.admin.rows import (
    NETWORK,
    PAY_TO,
    PAYER,
    SIGNATURE,
    START,
    make_event,
    make_method,
    make_payment,
    make_receipt,
    make_rule,
)
from x402_django.models import (
    ChainScan,
    ChainTransaction,
    ChainTransactionItem,
    Payment,
    PaymentEvent,
    Receipt,
    ScannedBlock,
    SettlementLane,
    SettlementWallet,
)

LEDGER = [
    Payment,
    PaymentEvent,
    Receipt,
    ChainTransaction,
    ChainTransactionItem,
    SettlementLane,
    SettlementWallet,
    ChainScan,
    ScannedBlock,
]
NASTY = "<script>alert('x')</script>"


def page(name: str, *args: Any) -> str:
    return reverse(f"admin:x402_django_{name}", args=args)


def make_chain_transaction(payment: Payment | None = None, **changes: Any) -> ChainTransaction:
    values: dict[str, Any] = {
        "network": NETWORK,
        "wallet": PAY_TO,
        "nonce": 7,
        "hash": "0x" + "c" * 64,
        "raw": b"\xde\xad\xbe\xef signed bytes",
        "to": PAYER,
        "gas_limit": 100_000,
        "max_fee_per_gas": 2_500_000_000,
        "max_priority_fee_per_gas": 1,
        "status": "mined",
        "created_at": START,
        "gas_used": 50_000,
        "effective_gas_price": 2_000_000_000,
        **changes,
    }
    row = ChainTransaction.objects.create(**values)
    if payment is not None:
        row.items.create(
            payment=payment,
            network=NETWORK,
            facilitator="default",
            status="riding",
            created_at=START,
        )
    return row


def make_one_of_each() -> dict[type, Any]:
    payment = make_payment()
    row = make_chain_transaction(payment)
    return {
        Payment: payment,
        PaymentEvent: make_event(payment),
        Receipt: make_receipt(payment),
        ChainTransaction: row,
        ChainTransactionItem: row.items.get(),
        SettlementLane: SettlementLane.objects.create(
            network=NETWORK, facilitator="default", held_until=START
        ),
        ChainScan: ChainScan.objects.create(network=NETWORK),
        ScannedBlock: ScannedBlock.objects.create(network=NETWORK, number=5, hash="0x" + "b" * 64),
        SettlementWallet: SettlementWallet.objects.create(
            network=NETWORK, address=PAY_TO, next_nonce=8
        ),
    }


@pytest.mark.parametrize("model", LEDGER)
def test_nobody_adds_changes_or_deletes(model: Any, desk: Client) -> None:
    row = make_one_of_each()[model]
    name = model._meta.model_name
    before = type(row)._base_manager.values().get(pk=row.pk)
    assert desk.get(page(f"{name}_changelist")).status_code == 200
    assert desk.get(page(f"{name}_change", row.pk)).status_code == 200
    assert desk.get(page(f"{name}_add")).status_code == 403
    assert desk.post(page(f"{name}_add"), {}).status_code == 403
    assert desk.post(page(f"{name}_change", row.pk), {"state": "final"}).status_code == 403
    assert desk.get(page(f"{name}_delete", row.pk)).status_code == 403
    assert desk.post(page(f"{name}_delete", row.pk), {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    desk.post(page(f"{name}_changelist"), action)
    assert type(row)._base_manager.values().get(pk=row.pk) == before


@pytest.mark.parametrize("model", LEDGER)
def test_permissions_are_false_for_a_superuser(model: Any, desk: Client) -> None:
    request = RequestFactory().get("/")
    request.user = User.objects.get(username="merchant")
    model_admin: Any = admin.site._registry[model]
    assert model_admin.has_view_permission(request)
    assert not model_admin.has_add_permission(request)
    assert not model_admin.has_change_permission(request)
    assert not model_admin.has_delete_permission(request)
    repairs = {"refund_whole", "deliver_once_more"} if model is Payment else set()
    assert set(model_admin.get_actions(request)) == repairs


@pytest.mark.parametrize("model", LEDGER)
def test_staff_sees_only_what_it_may_view(model: Any, staff: Any) -> None:
    row = make_one_of_each()[model]
    name = model._meta.model_name
    others = [f"view_{m._meta.model_name}" for m in LEDGER if m is not model]
    clerk = staff(*others)
    assert clerk.get(page(f"{name}_changelist")).status_code == 403
    assert clerk.get(page(f"{name}_change", row.pk)).status_code == 403


def test_staff_with_view_permission_may_look(staff: Any) -> None:
    payment = make_payment()
    make_event(payment, reason="the reason in history")
    clerk = staff("view_payment")
    assert clerk.get(page("payment_changelist")).status_code == 200
    detail = clerk.get(page("payment_change", payment.pk))
    assert detail.status_code == 200
    assert "the reason in history" not in detail.content.decode()


def test_an_anonymous_visitor_is_sent_to_the_login(client: Client, db: None) -> None:
    assert client.get(page("payment_changelist")).status_code == 302


class TestPaymentsList:
    def test_what_it_shows(self, desk: Client) -> None:
        make_payment(1, amount=12_345_678, price_usd=None)
        html = desk.get(page("payment_changelist")).content.decode()
        assert "12.345678 USDC" in html
        assert f'<span title="{PAYER}">0x3C44…93BC</span>' in html
        assert '<td class="field-network_short">Base Sepolia</td>' in html
        assert '<span class="x402-badge x402-badge-settled">settled</span>' in html
        assert "owed to the payer" not in html.partition("changelist-filter")[0]

    def test_amounts_of_any_size_are_exact(self, desk: Client) -> None:
        make_payment(1, amount=2**256 - 1)
        html = desk.get(page("payment_changelist")).content.decode()
        whole, fraction = divmod(2**256 - 1, 10**6)
        assert f"{whole}.{fraction} USDC" in html

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("attention=owed", {2, 3}),
            ("attention=unknown", {4}),
            ("attention=reversed", {6}),
            ("attention=nonsense", {1, 2, 3, 4, 5, 6}),
            ("state__exact=settling", {4, 5}),
            ("flow__exact=upfront", {5}),
            ("network=eip155:1", {6}),
            ("facilitator=other", {5}),
        ],
    )
    def test_filters(self, query: str, expected: set[int], desk: Client) -> None:
        make_payment(1)
        make_payment(2, delivered_at=None)
        make_payment(3, delivered_at=None, state="final")
        make_payment(4, delivered_at=None, state="settling", outcome_unknown_at=START)
        make_payment(5, delivered_at=None, state="settling", flow="upfront", facilitator="other")
        make_payment(6, state="reversed", delivered_at=None, network="eip155:1")
        answer = desk.get(f"{page('payment_changelist')}?{query}")
        assert {int(p.public_id, 16) for p in answer.context["cl"].result_list} == expected

    def test_what_needs_attention_says_so(self, desk: Client) -> None:
        make_payment(1, delivered_at=None)
        make_payment(2, delivered_at=None, state="settling", outcome_unknown_at=START)
        html = desk.get(page("payment_changelist")).content.decode()
        assert '<span class="x402-badge x402-badge-attention">owed to the payer</span>' in html
        assert '<span class="x402-badge x402-badge-attention">outcome unknown</span>' in html

    def test_what_an_attacker_wrote_is_text(self, desk: Client) -> None:
        payment = make_payment(
            1,
            resource_url=f"https://shop.example/{NASTY}",
            description=NASTY,
            rule_name=NASTY,
            payload={"signature": NASTY, "authorization": {"from": NASTY}},
            failure_code=NASTY,
        )
        make_event(payment, reason=NASTY, actor=NASTY, code=NASTY)
        receipt = make_receipt(payment)
        for url in (
            page("payment_changelist"),
            page("payment_change", payment.pk),
            page("paymentevent_changelist"),
            page("receipt_changelist"),
            page("receipt_change", receipt.pk),
        ):
            html = desk.get(url).content.decode()
            assert NASTY not in html
            assert "&lt;script&gt;alert" in html


class TestSearch:
    @pytest.mark.parametrize(
        ("term", "expected"),
        [
            (f"{2:040x}", {2}),
            (f"  {2:040x} ", {2}),
            ("000000", {1, 2}),
            ("0" * 39 + "3", set()),
            (PAYER, {1}),
            (PAYER.lower(), {1}),
            (PAYER.upper().replace("X", "x"), {1}),
            ("0x3C44", {1}),
            ("0x7099", {2}),
            (f"0x{1 + 10**9:064x}", {1}),
            (f"0x{2:064x}", {2}),
            (f"0x{10**9:064x}", set()),
            ("weather", set()),
            ("%", set()),
            ("0x' OR 1=1 --", set()),
        ],
    )
    def test_payments(self, term: str, expected: set[int], desk: Client) -> None:
        make_payment(1)
        make_payment(2, payer=PAY_TO)
        answer = desk.get(page("payment_changelist"), {"q": term})
        assert {int(p.public_id, 16) for p in answer.context["cl"].result_list} == expected

    def test_receipts(self, desk: Client) -> None:
        receipt = make_receipt(make_payment(1), reference="ab" * 20)
        make_receipt(make_payment(2, payer=PAY_TO), reference="cd" * 20)
        for term in ("abababab", "ab" * 20, PAYER.lower(), f"0x{1 + 10**9:064x}"):
            answer = desk.get(page("receipt_changelist"), {"q": term})
            assert [r.pk for r in answer.context["cl"].result_list] == [receipt.pk]
        assert (
            list(desk.get(page("receipt_changelist"), {"q": "zz"}).context["cl"].result_list) == []
        )

    def test_events_by_their_payment(self, desk: Client) -> None:
        event = make_event(make_payment(1))
        make_event(make_payment(2, payer=PAY_TO))
        for term in (f"{1:040x}", PAYER, f"0x{1:064x}"):
            answer = desk.get(page("paymentevent_changelist"), {"q": term})
            assert [e.pk for e in answer.context["cl"].result_list] == [event.pk]

    def test_chain_transactions(self, desk: Client) -> None:
        row = make_chain_transaction()
        found = desk.get(
            page("chaintransaction_changelist"), {"q": row.hash.upper().replace("X", "x")}
        )
        assert [r.pk for r in found.context["cl"].result_list] == [row.pk]
        none = desk.get(page("chaintransaction_changelist"), {"q": "0xcc"})
        assert list(none.context["cl"].result_list) == []


class TestPaymentPage:
    def test_history_receipt_and_transactions_are_at_hand(self, desk: Client) -> None:
        rule = make_rule()
        payment = make_payment(1, rule=rule, rule_name="Articles", method=make_method())
        make_event(payment, reason="it is on the chain")
        receipt = make_receipt(payment)
        sent = make_chain_transaction(payment)
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert "it is on the chain" in html
        assert f'<a href="{page("receipt_change", receipt.pk)}">{receipt.reference}</a>' in html
        assert (
            f'<a href="{page("chaintransaction_change", sent.pk)}">{sent.hash}</a> (mined)' in html
        )
        assert f'<a href="{page("pricerule_change", rule.pk)}">Articles</a>' in html

    def test_the_deployment_of_the_payers_wallet_is_shown_with_its_payment(
        self, desk: Client
    ) -> None:
        payment = make_payment(1)
        sent = make_chain_transaction()
        ChainTransaction.objects.filter(pk=sent.pk).update(prepares=payment)
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert (
            f'<a href="{page("chaintransaction_change", sent.pk)}">{sent.hash}</a> (mined)' in html
        )
        html = desk.get(page("chaintransaction_change", sent.pk)).content.decode()
        assert f'<a href="{page("payment_change", payment.pk)}">' in html

    def test_links_to_the_explorer_give_nothing_away(self, desk: Client) -> None:
        payment = make_payment(1)
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        for part in (f"tx/{payment.transaction}", f"address/{PAYER}", f"address/{PAY_TO}"):
            assert (
                f'<a href="https://sepolia.basescan.org/{part}" target="_blank" '
                'rel="noopener noreferrer">'
            ) in html

    def test_without_an_explorer_there_is_no_link(self, desk: Client) -> None:
        payment = make_payment(1, network="eip155:31337")
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert payment.transaction in html
        assert "noopener" not in html

    def test_an_explorer_of_another_scheme_is_no_link(self, desk: Client, settings: Any) -> None:
        networks = {NETWORK: {"RPC_URLS": ["https://r"], "EXPLORER_URL": "javascript:alert(1)//"}}
        settings.X402 = {**settings.X402, "NETWORKS": networks}
        payment = make_payment(1)
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert "javascript:" not in html

    def test_signature_and_response_are_not_shown(self, desk: Client) -> None:
        payment = make_payment(1)
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert SIGNATURE not in html
        assert f"{SIGNATURE[:10]}…" in html
        assert SIGNATURE[:11] not in html
        assert "the paid secret" not in html

    def test_a_deadline_beyond_all_calendars(self, desk: Client) -> None:
        payment = make_payment(1, valid_before=2**256 - 1)
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert f"{2**256 - 1} seconds since 1970" in html

    def test_a_payment_served_from_an_earlier_one(self, desk: Client) -> None:
        earlier = make_payment(1)
        payment = make_payment(2, superseded_by=earlier, state="released", transaction="")
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert f'<a href="{page("payment_change", earlier.pk)}">' in html


class TestOtherPages:
    def test_the_signed_bytes_are_not_shown(self, desk: Client) -> None:
        row = make_chain_transaction(make_payment(1))
        html = desk.get(page("chaintransaction_change", row.pk)).content.decode()
        assert "signed bytes" not in html
        assert "deadbeef" not in html

    def test_fees_are_exact(self, desk: Client) -> None:
        row = make_chain_transaction()
        for url in (page("chaintransaction_changelist"), page("chaintransaction_change", row.pk)):
            assert "0.0001" in desk.get(url).content.decode()
        assert "2.50 gwei" in desk.get(page("chaintransaction_change", row.pk)).content.decode()

    def test_fees_that_are_not_known_yet(self, desk: Client) -> None:
        row = make_chain_transaction(gas_used=None, status="sent")
        assert "—" in desk.get(page("chaintransaction_change", row.pk)).content.decode()

    def test_a_receipt_says_all(self, desk: Client) -> None:
        payment = make_payment(1, description="Today's weather")
        receipt = make_receipt(payment)
        html = desk.get(page("receipt_change", receipt.pk)).content.decode()
        for part in (
            receipt.reference,
            "0.01 USDC",
            "$0.01",
            PAYER,
            PAY_TO,
            payment.transaction,
            "https://shop.example/weather/",
            "Today&#x27;s weather",
            page("payment_change", payment.pk),
        ):
            assert part in html

    def test_an_event_links_to_its_payment(self, desk: Client) -> None:
        payment = make_payment(1)
        event = make_event(payment)
        html = desk.get(page("paymentevent_change", event.pk)).content.decode()
        assert page("payment_change", payment.pk) in html


def test_the_page_of_a_payment_by_the_payers_own_transfer(desk: Client) -> None:
    """It carries no authorization, and its proof's signature is shown no more than another's."""
    proof = {"txHash": "0x" + "d" * 64, "chainId": 1, "challengeId": "c", "signature": SIGNATURE}
    payment = make_payment(
        scheme="transfer", nonce="t:" + "1" * 64, facilitator="", flow="upfront",
        payload={**proof, "issuedAt": 1}, transaction="0x" + "d" * 64,
    )  # fmt: skip
    content = desk.get(page("payment_change", payment.pk)).content.decode()
    assert payment.public_id in content
    assert "0x" + "d" * 64 in content
    assert SIGNATURE not in content
    found = desk.get(page("payment_changelist"), {"q": "0x" + "d" * 64}).content.decode()
    assert payment.public_id[:12] in found


class TestLowWallet:
    """A settlement wallet that runs dry is hard to overlook."""

    LISTS = ("payment", "chaintransaction", "settlementwallet")

    def wallet(self, **changes: Any) -> SettlementWallet:
        values = {"balance": 9 * 10**15, "low_balance": 10**16, "balance_at": START, **changes}
        return SettlementWallet.objects.create(
            network=NETWORK, address=PAY_TO, next_nonce=8, **values
        )

    @pytest.mark.parametrize("name", LISTS)
    def test_the_lists_say_so(self, name: str, desk: Client) -> None:
        self.wallet()
        html = desk.get(page(f"{name}_changelist")).content.decode()
        assert f"The settlement wallet {PAY_TO} on Base Sepolia" in html
        assert "has only 0.009 left for gas" in html

    def test_the_wallets_page_says_so(self, desk: Client) -> None:
        wallet = self.wallet()
        html = desk.get(page("settlementwallet_change", wallet.pk)).content.decode()
        assert '0.009 <span class="x402-badge x402-badge-attention">low</span>' in html
        assert "0.01" in html

    @pytest.mark.parametrize(
        "changes",
        [{"balance": 10**16}, {"low_balance": None}, {"balance": None, "balance_at": None}],
        ids=["enough", "no limit", "not known"],
    )
    def test_otherwise_nothing_is_said(self, changes: dict[str, Any], desk: Client) -> None:
        self.wallet(**changes)
        for name in self.LISTS:
            html = desk.get(page(f"{name}_changelist")).content.decode()
            assert "left for gas" not in html
            assert "x402-badge-attention" not in html

    def test_who_may_not_see_the_wallets_is_not_told(self, db: None, client: Client) -> None:
        from django.contrib.auth.models import Permission

        self.wallet()
        user = User.objects.create_user("clerk", password="secret", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_payment"))
        client.force_login(user)
        answer = client.get(page("payment_changelist"))
        assert answer.status_code == 200
        assert "left for gas" not in answer.content.decode()
