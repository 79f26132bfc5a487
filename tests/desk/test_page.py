"""The dashboard as its merchant sees it: exact numbers, whose they are, and at what price."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.admin.rows import PAYER, make_payment
from tests.desk.histories import EURC, give_back
from tests.desk.rows import NOW, PAGE, ask, day, fail, sell, shown, values
from x402_django.desk import figures
from x402_django.models import ChainTransaction, CountedDay, Merchant, SettlementWallet
from x402_django.pricing.cache import current_rules

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("today")]

DEFERRED = {"flow": "deferred", "transaction": "", "settled_at": None}
OTHER_PAYER = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"


@pytest.fixture
def bakery(db: None) -> Merchant:
    return Merchant.objects.create(name="Bakery")


def table(chart: Any) -> dict[str, list[str]]:
    """The rows of a chart's table in which there is anything."""
    nothing = ("0", "$0.00", "—")
    rows = {head: list(cells) for head, cells in chart.table}
    return {head: cells for head, cells in rows.items() if set(cells) - set(nothing)}


class TestNumbers:
    def test_revenue_by_day_network_and_token(self, owner: Client) -> None:
        sell(0, "0.01")
        sell(0, "1234.56789")
        sell(3, "0.00000001")
        sell(3, "2", asset=EURC, asset_symbol="EURC", network="eip155:8453")
        sell(29, "10")
        sell(30, "100")  # in the thirty days before
        answer = shown(owner)
        assert values(answer)["Revenue"] == (
            "$1,246.58",
            "▲ 1,146.6 % against the 30 days before",
        )
        assert values(answer)["Paid requests"] == ("5", "▲ 400.0 % against the 30 days before")
        assert list(answer.context["revenue"].heads) == [
            "Day", "USDC on Base Sepolia", "EURC on Base",
        ]  # fmt: skip
        assert table(answer.context["revenue"]) == {
            "March 10, 2026": ["$1,234.57789", "$0.00"],
            "March 7, 2026": ["$0.00000001", "$2.00"],
            "Feb. 9, 2026": ["$10.00", "$0.00"],
        }
        assert len(answer.context["revenue"].table) == 30
        assert table(answer.context["paid"]) == {
            "March 10, 2026": ["2"], "March 7, 2026": ["2"], "Feb. 9, 2026": ["1"],
        }  # fmt: skip
        tokens = [(t["name"], t["amount"], t["usd"], t["paid"]) for t in answer.context["tokens"]]
        assert tokens == [
            ("USDC on Base Sepolia", "1,244.57789 USDC", "$1,244.58", "4"),
            ("EURC on Base", "2.00 EURC", "$2.00", "1"),
        ]

    def test_by_week_and_by_month(self, owner: Client) -> None:
        for days_ago in (0, 1, 2, 8, 9, 40):  # the tenth is a Tuesday
            sell(days_ago, "1")
        weeks = shown(owner, days=30, by="week").context["revenue"]
        assert weeks.heads[0] == "Week from"
        assert table(weeks) == {
            "March 9, 2026": ["$2.00"], "March 2, 2026": ["$2.00"], "Feb. 23, 2026": ["$1.00"],
        }  # fmt: skip
        months = shown(owner, days=90, by="month").context["revenue"]
        assert table(months) == {"Mar 2026": ["$5.00"], "Jan 2026": ["$1.00"]}
        assert len(months.table) == 4  # December to March

    def test_what_has_no_price_in_dollars(self, owner: Client) -> None:
        sell(1, "3")
        sell(1, None)  # five tokens
        answer = shown(owner)
        assert values(answer)["Revenue"][0] == "$3.00"
        assert values(answer)["Paid requests"][0] == "2"
        assert answer.context["tokens"][0]["amount"] == "8.00 USDC"
        assert "1 payment has no price in US dollars" in answer.content.decode()

    def test_what_was_given_back_is_told_beside_the_revenue(self, owner: Client) -> None:
        assert "Refunded" not in values(shown(owner))
        payment = sell(20, "3")
        give_back(payment, 10**6, Decimal(1))
        give_back(payment, 5 * 10**5, Decimal("0.5"))
        answer = shown(owner)
        assert values(answer)["Revenue"][0] == "$3.00"
        assert values(answer)["Refunded"] == ("$1.50", "2 refunds, not taken from the revenue")
        (token,) = answer.context["tokens"]
        assert (token["amount"], token["refunded"]) == ("3.00 USDC", "1.50 USDC")
        assert "1.50 USDC refunded" in answer.content.decode()

    def test_conversion_in_all_and_by_rule(self, owner: Client) -> None:
        sell(0, "1", rule_name="Articles")
        sell(0, "1", rule_name="Articles")
        sell(2, "5")
        ask(0, 8, rule="Articles")
        ask(0, 100, rule="Articles", code="insufficient_funds")  # who was refused was asked before
        ask(1, 5, rule="Reports")
        ask(2, 2)
        answer = shown(owner, days=7)
        assert values(answer)["Conversion"] == ("20.0 %", "of 15 that were asked to pay")
        shares = {head: cells[0] for head, cells in answer.context["conversion"].table}
        assert shares == {
            "March 4, 2026": "—", "March 5, 2026": "—", "March 6, 2026": "—",
            "March 7, 2026": "—", "March 8, 2026": "50.0\xa0%", "March 9, 2026": "0.0\xa0%",
            "March 10, 2026": "25.0\xa0%",
        }  # fmt: skip
        rules = [
            (r["name"], r["asked"], r["paid"], r["conversion"], r["usd"])
            for r in answer.context["rules"]
        ]
        assert rules == [
            ("Prices in code", "2", "1", "50.0\xa0%", "$5.00"),
            ("Articles", "8", "2", "25.0\xa0%", "$2.00"),
            ("Reports", "5", "0", "0.0\xa0%", "$0.00"),
        ]

    def test_who_pays_without_being_asked_is_no_more_than_all(self, owner: Client) -> None:
        for _ in range(3):
            sell(0)
        ask(0, 2)
        assert values(shown(owner))["Conversion"][0] == "100.0 %"

    def test_why_payments_failed(self, owner: Client) -> None:
        for code in ("insufficient_funds", "insufficient_funds", "view_failed"):
            fail(2, code)
        fail(3, "", "rejected")
        fail(60, "claim_timed_out", "released")
        failures = shown(owner).context["failures"]
        assert [(one["name"], one["count"], one["share"]) for one in failures] == [
            ("insufficient_funds", "2", "50.0\xa0%"),
            ("other", "1", "25.0\xa0%"),
            ("view_failed", "1", "25.0\xa0%"),
        ]

    def test_how_long_settling_takes(self, owner: Client) -> None:
        for seconds in (0.05, 0.7, 0.7, 0.7, 5, 9, 7200):
            sell(1, seconds=seconds)
        answer = shown(owner)
        assert table(answer.context["times"]) == {
            "0.1\xa0s": ["1"], "1\xa0s": ["3"], "6\xa0s": ["1"], "12\xa0s": ["1"], "more": ["1"],
        }  # fmt: skip
        # The fourth of seven is the last of those within a second; the last is beyond the bins.
        assert values(answer)["Time to settle"] == ("0.92 s", "half within; 95 % within 30 min")

    def test_pages_and_payers(self, owner: Client) -> None:
        url = "https://shop.example/reports/"
        sell(1, "1", resource_url=url + "?q=1", payer=OTHER_PAYER)
        sell(2, "2", resource_url=url, payer=OTHER_PAYER)
        sell(2, "0.5", resource_url="https://shop.example/<b>/")
        answer = shown(owner)
        pages = [(p["name"], p["paid"], p["usd"]) for p in answer.context["pages"]]
        assert pages == [("/reports/", "2", "$3.00"), ("/<b>/", "1", "$0.50")]
        payers = [(p["link"].partition("q=")[2], p["usd"]) for p in answer.context["payers"]]
        assert payers == [(OTHER_PAYER, "$3.00"), (PAYER, "$0.50")]
        assert "/&lt;b&gt;/" in answer.content.decode()
        assert "/<b>/" not in answer.content.decode()
        # The link leads to that payer's payments.
        listed = owner.get(answer.context["payers"][0]["link"]).context["cl"]
        assert {payment.payer for payment in listed.result_list} == {OTHER_PAYER}

    def test_many_tokens_share_the_last_colour(self, owner: Client) -> None:
        for number in range(1, 9):
            asset = f"0x{number:040x}"
            sell(0, str(10 - number), asset=asset, asset_symbol=f"T{number}")
        chart = shown(owner).context["revenue"]
        assert [label for _colour, label in chart.legend] == [
            *(f"T{number} on Base Sepolia" for number in range(1, 6)),
            "all others",
        ]
        assert table(chart)["March 10, 2026"] == [
            "$9.00", "$8.00", "$7.00", "$6.00", "$5.00", "$9.00",
        ]  # fmt: skip

    def test_what_is_owed_now(self, owner: Client) -> None:
        sell(0, "7")
        sell(200, "5", delivered_at=None)  # however old
        make_payment(9001, state="verified", price_usd="0.021", **DEFERRED)
        make_payment(9002, state="settling", price_usd="0.01", **DEFERRED)
        answer = shown(owner)
        assert values(answer, "now") == {
            "Delivered, not settled yet": ("$0.031", "2 payments, owed by payers"),
            "Paid, not delivered yet": ("$5.00", "1 payment, owed to payers"),
        }
        for tile, expected in zip(answer.context["now"], (2, 1), strict=True):
            assert len(owner.get(tile["link"]).context["cl"].result_list) == expected

    def test_wallets_and_gas(self, owner: Client) -> None:
        address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        SettlementWallet.objects.create(
            network="eip155:8453", address=address, next_nonce=3, balance=10**15,
            low_balance=2 * 10**15, balance_at=NOW,
        )  # fmt: skip
        for nonce, days_ago in enumerate((0, 1, 60)):
            ChainTransaction.objects.create(
                network="eip155:8453", wallet=address, nonce=nonce, hash=f"0x{nonce:064x}",
                raw=b"", to=EURC, gas_limit=1, max_fee_per_gas=1, max_priority_fee_per_gas=1,
                payments_count=2, created_at=day(days_ago), mined_at=day(days_ago),
                status="mined", gas_used=100_000, effective_gas_price=10**9,
            )  # fmt: skip
        (line,) = shown(owner).context["wallets"]
        assert (line["balance"], line["is_low"]) == ("0.001 ETH", True)
        assert (line["fee"], line["transactions"], line["payments"], line["each"]) == (
            "0.0002 ETH", "2", "4", "0.00005 ETH",
        )  # fmt: skip
        assert 'attention">low</span>' in owner.get(PAGE).content.decode()
        tiles = values(owner.get(PAGE), "now")
        assert tiles["Settlement wallets"] == ("1 low", "1 wallet")
        SettlementWallet.objects.update(balance=2 * 10**15)
        assert values(owner.get(PAGE), "now")["Settlement wallets"][0] == "Enough gas"


class TestEmpty:
    def test_before_anything_was_counted(self, owner: Client) -> None:
        html = owner.get(PAGE).content.decode()
        assert "Nothing has been counted yet." in html
        assert "manage.py x402_desk" in html

    def test_nothing_was_sold(self, owner: Client) -> None:
        sell(400)
        answer = shown(owner)
        assert values(answer) == {
            "Revenue": ("$0.00", "nothing in the 30 days before"),
            "Paid requests": ("0", "nothing in the 30 days before"),
            "Conversion": ("—", "of 0 that were asked to pay"),
            "Time to settle": ("—", "half within; 95 % within —"),
        }
        html = answer.content.decode()
        assert html.count("No payment in these days.") == 6
        assert "None failed in these days." in html
        assert "Nothing has been counted yet." not in html

    def test_days_that_are_being_counted_are_told(self, owner: Client) -> None:
        sell(1)
        shown(owner)
        CountedDay.mark([day(n).date() for n in range(12)])
        html = owner.get(PAGE).content.decode()
        assert "12 days are being counted anew" in html


class TestChoice:
    def test_the_usual_and_nonsense(self, owner: Client) -> None:
        for query in ({}, {"days": "31"}, {"days": "x", "by": "hour"}, {"merchant": "99"}):
            period = owner.get(PAGE, query).context["period"]
            assert (period.length, period.step, period.merchants) == (30, "day", None)

    def test_links_keep_what_else_was_chosen(self, owner: Client, bakery: Merchant) -> None:
        query = {"days": "90", "by": "week", "merchant": str(bakery.pk)}
        answer = owner.get(PAGE, query)
        period = answer.context["period"]
        assert (period.length, period.step, period.merchants) == (90, "week", {bakery.pk})
        for one in answer.context["steps"]:
            chosen = owner.get(PAGE + one["link"]).context["period"]
            assert (chosen.length, chosen.merchants) == (90, {bakery.pk})
        for one in answer.context["lengths"]:
            chosen = owner.get(PAGE + one["link"]).context["period"]
            assert chosen.merchants == {bakery.pk}
        html = answer.content.decode()
        assert html.count('aria-current="true"') == 2
        assert f'<option value="{bakery.pk}" selected>Bakery</option>' in html

    def test_a_site_with_one_merchant_is_not_asked_for_it(self, owner: Client) -> None:
        assert 'name="merchant"' not in owner.get(PAGE).content.decode()


class TestWhose:
    @pytest.fixture(autouse=True)
    def _rows(self, bakery: Merchant) -> None:
        sell(1, "100")
        sell(1, "7", merchant=bakery, rule_name="Bread", resource_url="https://shop.example/bread/")
        fail(1, "insufficient_funds")
        ask(1, 40, rule="The site's own rule")
        ask(1, 4, merchant=bakery.pk, rule="Bread")
        make_payment(9003, state="verified", price_usd="0.03", **DEFERRED)
        sell(2, "11", delivered_at=None)
        SettlementWallet.objects.create(network="eip155:1", address=PAYER, next_nonce=0)

    def test_a_member_sees_nothing_of_others(self, member: Any, bakery: Merchant) -> None:
        baker = member(bakery, "view_payment", "view_settlementwallet")
        for query in ({}, {"merchant": "1"}, {"merchant": "x"}):
            answer = shown(baker, **query)
            assert values(answer)["Revenue"][0] == "$7.00"
            assert values(answer)["Paid requests"][0] == "1"
            assert values(answer)["Conversion"][0] == "25.0 %"
            assert values(answer, "now") == {
                "Delivered, not settled yet": ("$0.00", "none"),
                "Paid, not delivered yet": ("$0.00", "none"),
            }
            assert answer.context["failures"] == []
            assert [page["name"] for page in answer.context["pages"]] == ["/bread/"]
            assert [rule["name"] for rule in answer.context["rules"]] == ["Bread"]
            assert answer.context["wallets"] is None
            html = answer.content.decode()
            for secret in ("weather", "insufficient", "own rule", "This site", "$100", "$11"):
                assert secret not in html

    def test_who_sees_all_may_choose_one(self, owner: Client, bakery: Merchant) -> None:
        assert values(shown(owner))["Revenue"][0] == "$118.00"
        assert shown(owner).context["wallets"]
        answer = shown(owner, merchant=bakery.pk)
        assert values(answer)["Revenue"][0] == "$7.00"
        assert answer.context["wallets"] is None  # they are the site's

    def test_a_member_of_two_may_choose_among_those(self, member: Any, bakery: Merchant) -> None:
        third = Merchant.objects.create(name="Third")
        sell(1, "1", merchant=third)
        client = member(bakery, "view_payment")
        third.members.add(client.get(PAGE).wsgi_request.user)
        assert values(shown(client))["Revenue"][0] == "$8.00"
        assert values(shown(client, merchant=third.pk))["Revenue"][0] == "$1.00"
        assert values(shown(client, merchant=1))["Revenue"][0] == "$8.00"

    def test_a_member_of_none_sees_nothing(self, member: Any) -> None:
        answer = shown(member(None, "view_payment"))
        assert values(answer)["Revenue"][0] == "$0.00"
        assert answer.context["pages"] == answer.context["payers"] == answer.context["rules"] == []


class TestPermission:
    def test_who_may_not_see_payments_may_not_see_their_sums(self, member: Any) -> None:
        client = member(None, "view_receipt")
        assert client.get(PAGE).status_code == 403
        assert PAGE not in client.get("/admin/").content.decode()
        assert Client().get(PAGE).status_code == 302  # to the login

    def test_it_is_in_the_index_and_the_list_of_the_app(self, member: Any) -> None:
        client = member(None, "view_payment")
        for page in ("/admin/", "/admin/x402_django/"):
            assert f'href="{PAGE}"' in client.get(page).content.decode()
        assert client.get(PAGE).context["wallets"] is None
        assert (
            member(None, "view_payment", "view_settlementwallet").get(PAGE).context["wallets"] == []
        )

    def test_nothing_can_be_written_there(self, owner: Client) -> None:
        for page in ("add/", "1/change/", "1/delete/", "1/history/"):
            assert owner.get(PAGE + page).status_code == 404


class TestCost:
    def count(self, client: Client, **query: Any) -> int:
        current_rules()  # the gate of the site under test keeps its rules in memory
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(PAGE, query)
        assert answer.status_code == 200
        for query_made in captured.captured_queries:
            if '"x402_django_payment"' in query_made["sql"]:
                assert "LIMIT 10001" in query_made["sql"]
            assert "x402_django_paymentevent" not in query_made["sql"]
            assert "x402_django_receipt" not in query_made["sql"]
        return len([one for one in captured.captured_queries if "SAVEPOINT" not in one["sql"]])

    def test_fifteen_queries_at_the_most(
        self, owner: Client, member: Any, bakery: Merchant
    ) -> None:
        everything = ("view_payment", "view_settlementwallet")
        clients = {
            "owner": owner,
            "staff": member(None, *everything, "all_merchants"),
            "baker": member(bakery, *everything),
        }
        counts = {name: self.count(client) for name, client in clients.items()}
        for number in range(40):
            sell(
                number % 20, rule_name=f"Rule {number}", asset=f"0x{number:040x}",
                payer=f"0x{number:040x}", merchant=bakery,
            )  # fmt: skip
            ask(number % 20, 3, rule=f"Rule {number}", merchant=bakery.pk)
        shown(owner)
        assert {name: self.count(client) for name, client in clients.items()} == counts
        assert self.count(owner, days=365, by="day") == counts["owner"]
        assert counts == {"owner": 13, "staff": 15, "baker": 15}

    def test_a_strict_content_security_policy_refuses_nothing(self, owner: Client) -> None:
        sell(0)
        ask(0, 3)
        html = shown(owner).content.decode()
        part = html[html.index('<div id="content-main"') : html.index("<footer")]
        assert "<svg" in part
        assert not re.search(r"<(script|style|link|iframe|object)|\s(style|on\w+)=", part)
        assert not re.search(r"https?://", part)


def test_a_share_of_nothing_is_unknown() -> None:
    assert figures.conversion(3, 0) is None
