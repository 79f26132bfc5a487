"""How far the chains were read, and what waits to be settled, as an operator sees it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.admin.rows import NETWORK, make_payment
from tests.admin.test_ledger import make_chain_transaction
from x402_django import clock
from x402_django.models import (
    ChainScan,
    ChainTransactionItem,
    ScannedBlock,
    SettlementLane,
)


def page(name: str, *args: Any) -> str:
    return reverse(f"admin:x402_django_{name}", args=args)


def ago(seconds: int) -> Any:
    return clock.now() - timedelta(seconds=seconds)


def hashed(number: int) -> str:
    return f"0x{number:064x}"


class TestChainScans:
    def shown(self, desk: Client, name: str) -> str:
        (scan,) = desk.get(page("chainscan_changelist")).context["cl"].result_list
        model_admin = desk.get(page("chainscan_changelist")).context["cl"].model_admin
        return str(getattr(model_admin, name)(scan))

    def test_how_far_it_is(self, desk: Client) -> None:
        ChainScan.objects.create(network=NETWORK, head=120, finished_at=ago(5))
        for number in (90, 100, 110):
            ScannedBlock.objects.create(network=NETWORK, number=number, hash=hashed(number))
        ScannedBlock.objects.create(network="eip155:1", number=999, hash=hashed(999))
        html = desk.get(page("chainscan_changelist")).content.decode()
        assert '<td class="field-read_to">110</td>' in html
        assert '<td class="field-head">120</td>' in html
        assert '<td class="field-behind">10</td>' in html
        assert "Base Sepolia (eip155:84532)" in html

    def test_before_the_first_run(self, desk: Client) -> None:
        ChainScan.objects.create(network=NETWORK)
        html = desk.get(page("chainscan_changelist")).content.decode()
        assert '<td class="field-read_to">—</td>' in html
        assert '<td class="field-behind">—</td>' in html
        assert "overdue" in html

    @pytest.mark.parametrize(
        ("network", "holder", "held", "finished", "words"),
        [
            (NETWORK, "", None, 59, "up to date"),
            (NETWORK, "", None, 61, "overdue"),
            (NETWORK, "", None, None, "overdue"),
            (NETWORK, "ab", -60, 3600, "being read"),
            (NETWORK, "ab", 60, 3600, "overdue"),
            (NETWORK, "ab", 60, 10, "up to date"),
            ("eip155:1", "", None, 3600, "the settings name no node"),
        ],
    )
    def test_its_condition(
        self,
        network: str,
        holder: str,
        held: int | None,
        finished: int | None,
        words: str,
        desk: Client,
    ) -> None:
        ChainScan.objects.create(
            network=network,
            holder=holder,
            held_until=None if held is None else ago(held),
            finished_at=None if finished is None else ago(finished),
        )
        assert words in self.shown(desk, "condition_badge")

    def test_patience_grows_with_the_interval(self, desk: Client, settings: Any) -> None:
        settings.X402 = {**settings.X402, "CONFIRMATION_INTERVAL": 100}
        ChainScan.objects.create(network=NETWORK, finished_at=ago(290))
        assert "up to date" in self.shown(desk, "condition_badge")

    def test_what_waits_for_confirmation(self, desk: Client) -> None:
        scan = ChainScan.objects.create(network=NETWORK)
        make_payment(1, block_number=70)
        make_payment(2, block_number=60)
        make_payment(3, block_number=50, state="final")
        make_payment(4, block_number=40, network="eip155:1")
        html = desk.get(page("chainscan_change", scan.pk)).content.decode()
        assert '<div class="readonly">2</div>' in html
        assert '<div class="readonly">60</div>' in html
        assert '<div class="readonly">50</div>' not in html


class TestScannedBlocks:
    @pytest.mark.parametrize(
        ("term", "expected"),
        [("100", [100]), (hashed(110), [110]), ("10", []), ("9" * 30, []), ("x", []), ("²", [])],
    )
    def test_by_number_or_hash(self, term: str, expected: list[int], desk: Client) -> None:
        for number in (100, 110):
            ScannedBlock.objects.create(network=NETWORK, number=number, hash=hashed(number))
        found = desk.get(page("scannedblock_changelist"), {"q": term}).context["cl"].result_list
        assert [block.number for block in found] == expected


class TestSettlementLanes:
    def test_who_leads_and_who_waits(self, desk: Client) -> None:
        lane = SettlementLane.objects.create(
            network=NETWORK, facilitator="default", holder="host-7", held_until=ago(-20)
        )
        SettlementLane.objects.create(
            network="eip155:1", facilitator="default", holder="dead", held_until=ago(5)
        )
        for number, status in enumerate(("waiting", "waiting", "alone"), start=1):
            ChainTransactionItem.objects.create(
                payment=make_payment(number, state="settling"),
                network=NETWORK,
                facilitator="default",
                status=status,
                created_at=ago(30),
            )
        html = desk.get(page("settlementlane_changelist")).content.decode()
        assert "host-7" in html
        assert "dead" not in html
        assert "nobody" in html
        assert '<td class="field-waiting_shown">2</td>' in html
        assert '<td class="field-waiting_shown">0</td>' in html
        assert desk.get(page("settlementlane_change", lane.pk)).status_code == 200


class TestPlacesInTransactions:
    def make(self) -> tuple[ChainTransactionItem, ChainTransactionItem]:
        rides, waits = make_payment(1), make_payment(2, state="settling", transaction="")
        row = make_chain_transaction(rides)
        waiting = ChainTransactionItem.objects.create(
            payment=waits,
            network=NETWORK,
            facilitator="default",
            status="waiting",
            created_at=ago(3),
        )
        return row.items.get(), waiting

    def test_both_ends_are_linked(self, desk: Client) -> None:
        rides, waits = self.make()
        html = desk.get(page("chaintransactionitem_change", rides.pk)).content.decode()
        assert page("payment_change", rides.payment_id) in html
        assert page("chaintransaction_change", rides.chain_transaction_id) in html
        html = desk.get(page("chaintransactionitem_change", waits.pk)).content.decode()
        assert page("payment_change", waits.payment_id) in html
        assert "waiting for a transaction" in html

    def test_search_and_filter(self, desk: Client) -> None:
        rides, waits = self.make()

        def found(**params: str) -> list[int]:
            answer = desk.get(page("chaintransactionitem_changelist"), params)
            return [item.pk for item in answer.context["cl"].result_list]

        assert found() == [waits.pk, rides.pk]
        assert found(q=rides.chain_transaction.hash) == [rides.pk]
        assert found(q=rides.payment.transaction) == [rides.pk]
        assert found(q=waits.payment.nonce) == [waits.pk]
        assert found(q=waits.payment.public_id) == [waits.pk]
        assert found(q="nonsense") == []
        assert found(status__exact="waiting") == [waits.pk]
        assert found(status__exact="missed") == []

    def test_the_list_asks_once_for_all_rows(self, desk: Client) -> None:
        self.make()
        url = page("chaintransactionitem_changelist")
        desk.get(url)
        with CaptureQueriesContext(connection) as few:
            desk.get(url)
        for number in range(10, 16):
            make_chain_transaction(make_payment(number), nonce=number, hash=hashed(number))
        with CaptureQueriesContext(connection) as many:
            desk.get(url)
        assert len(many) == len(few)
