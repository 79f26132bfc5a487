"""What a scan asks of a node: counted, request by request."""

from __future__ import annotations

import secrets
from collections import Counter
from decimal import Decimal

import pytest

from tests.chain.scripted import ScriptedNode
from tests.chain.support import NETWORK, x402_settings
from tests.payments.support import ago, offer, unsaved
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.models import Payment, ScannedBlock
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.protocol.types import SignedPayment

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def configure(settings, **network) -> None:
    network = {"PROVIDER": "tests.chain.scripted.provider", **network}
    settings.X402 = {**x402_settings(**network), "CONFIRMATION_INTERVAL": 0}


@pytest.fixture
def node(settings) -> ScriptedNode:
    configure(settings)
    return ScriptedNode()


def payments(count: int, state: str = "settled", **changes) -> list[Payment]:
    """Rows as they are once settled, or when their settlement is unknown."""
    now = clock.now()
    terms = offer(network=NETWORK, asset=TOKEN)
    rows = []
    for number in range(count):
        nonce = "0x" + secrets.token_hex(32)
        signed = SignedPayment(terms, PAYER, 0, 2**40, nonce, bytes(65), "https://shop.example", 2)
        values = {"state": state, "state_changed_at": ago(100), "created_at": ago(200)}
        if state == "settled":
            values |= {"settled_at": now, "transaction": "0x" + f"{number:064x}"}
        else:
            values |= {"outcome_unknown_at": ago(100)}
        rows.append(unsaved(signed, **{**values, **changes}))
    return Payment.objects.bulk_create(rows, batch_size=500)


def put_on_chain(node: ScriptedNode, rows: list[Payment], blocks: list[int]) -> None:
    """Spread over ``blocks``, in transactions of up to a hundred; the rows know where they are."""
    share = -(-len(rows) // len(blocks))
    for position, number in enumerate(blocks):
        inside = rows[position * share : (position + 1) * share]
        for start in range(0, len(inside), 100):
            batch = inside[start : start + 100]
            transaction = "0x" + secrets.token_hex(32)
            before = len(node.logs.get(number, []))
            paid = [(row.payer, row.nonce, row.pay_to, row.amount) for row in batch]
            node.pay(number, transaction, TOKEN.lower(), *paid)
            for index, row in enumerate(batch):
                row.transaction, row.block_number = transaction, number
                row.block_hash, row.log_index = node.hash_of(number), before + 2 * index + 1
    if rows[0].state == "settled":
        fields = ["transaction", "block_number", "block_hash", "log_index"]
        Payment.objects.bulk_update(rows, fields, batch_size=200)


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_cost_of_confirming_is_that_of_the_blocks(node, count) -> None:
    put_on_chain(node, payments(count), list(range(81, 101)))

    report = confirm_pending_payments()

    assert (report.final, report.out_of_reach) == (count, 0)
    assert Payment.objects.filter(state="final").count() == count
    assert node.calls == {"eth_chainId": 1, "eth_getBlockByNumber": 3, "eth_getLogs": 2}
    assert node.requests == 4


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_so_is_that_of_resolving_unknown_outcomes(node, count) -> None:
    put_on_chain(node, payments(count, "settling"), list(range(81, 101)))

    report = confirm_pending_payments()

    assert (report.settled, report.final, report.still_unknown) == (count, count, 0)
    assert node.calls == {"eth_chainId": 1, "eth_getBlockByNumber": 3, "eth_getLogs": 2}


def test_the_whole_way_to_depth(node, settings) -> None:
    """Met when new, left alone on the way, read once more when deep enough."""
    configure(settings, CONFIRMATIONS=12)
    put_on_chain(node, payments(1_000), list(range(91, 101)))
    total: Counter[str] = Counter()
    seen = []
    for height in (100, 101, 103, 111):
        node.head = height
        node.forget_counts()
        report = confirm_pending_payments()
        total += node.calls
        seen.append((report.final, node.ranges[:]))
    assert seen == [
        (0, [(0, 100), (91, 100)]),
        (0, [(101, 101)]),
        (200, [(102, 103), (91, 92), (91, 92)]),
        (800, [(104, 111), (93, 100), (93, 100)]),
    ]
    assert total == {"eth_chainId": 1, "eth_getBlockByNumber": 16, "eth_getLogs": 9}


def test_a_site_without_pending_payments_asks_nothing(node) -> None:
    payments(3, "final", settled_at=ago(10), transaction="0x" + "1" * 64)
    confirm_pending_payments()
    assert node.requests == 0


def test_when_nothing_is_new_nothing_is_read(node, settings) -> None:
    configure(settings, CONFIRMATIONS=12)
    put_on_chain(node, payments(10), [100])
    confirm_pending_payments()
    node.forget_counts()
    confirm_pending_payments()
    assert node.calls == {"eth_getBlockByNumber": 2}
    assert node.requests == 1


def test_payments_far_apart_are_read_in_ranges(node, settings) -> None:
    """Old blocks with nothing between them are not read for what lies between them."""
    node.head = 50_000
    ScannedBlock.objects.create(network=NETWORK, number=50_000, hash=node.hash_of(50_000))
    put_on_chain(node, payments(6), [1_000, 1_049, 9_000, 20_000, 20_100, 21_000])
    assert confirm_pending_payments().final == 6
    first = [pair for position, pair in enumerate(node.ranges) if position % 2 == 0]
    assert sorted(first) == [
        (1_000, 1_049),
        (9_000, 9_000),
        (20_000, 20_000),
        (20_100, 20_100),
        (21_000, 21_000),
    ]


def test_ranges_are_bounded(node, settings) -> None:
    configure(settings, LOG_RANGE=10)
    node.head = 1_000
    ScannedBlock.objects.create(network=NETWORK, number=950, hash=node.hash_of(950))
    put_on_chain(node, payments(20), list(range(961, 981)))
    assert confirm_pending_payments().final == 20
    assert [last - first + 1 for first, last in node.ranges] == [10] * 7
    newest = ScannedBlock.objects.filter(network=NETWORK).order_by("-number").first()
    assert (newest.number, newest.hash) == (1_000, node.hash_of(1_000))


def test_after_a_long_absence_the_search_is_bounded_and_nothing_is_missed(node, settings) -> None:
    configure(settings, LOG_RANGE=10)
    node.head = 100_000
    ScannedBlock.objects.create(network=NETWORK, number=7, hash=node.hash_of(7))
    put_on_chain(node, payments(5), [500])
    assert confirm_pending_payments().final == 5
    assert len(node.ranges) == 12  # ten new ranges, and the old block's two queries


def test_a_range_with_too_many_logs_is_halved(node) -> None:
    node.most_logs = 30
    put_on_chain(node, payments(100), [97, 98, 99, 100])
    assert confirm_pending_payments().final == 100
    assert node.calls["eth_getTransactionReceipt"] == 0


def test_a_node_without_batches_is_asked_one_by_one(node) -> None:
    node.batches = False
    put_on_chain(node, payments(100), [99, 100])
    assert confirm_pending_payments().final == 100
    assert node.calls["eth_getLogs"] == 2
    assert node.requests == 1 + 6 + 1  # the chain's id, each question, and the batch it refused


def test_a_node_that_refuses_logs_leaves_receipts(node) -> None:
    node.most_logs = -1
    put_on_chain(node, payments(5), [100])
    assert confirm_pending_payments().final == 5
    assert node.calls["eth_getTransactionReceipt"] == 5


def test_other_transfers_to_us_move_nothing(node) -> None:
    rows = payments(2)
    put_on_chain(node, rows, [100])
    node.pay(100, "0x" + "ab" * 32, TOKEN.lower(), (PAYER, "0x" + "cd" * 32, PAY_TO, 5))
    node.pay(100, "0x" + "ac" * 32, PAYER.lower(), (PAYER, rows[0].nonce, PAY_TO, 10_000))
    assert confirm_pending_payments().final == 2
    rows[0].refresh_from_db()
    assert rows[0].log_index == 1


def test_a_payment_of_another_amount_in_its_place_proves_nothing(node) -> None:
    row = payments(1)[0]
    node.pay(100, row.transaction, TOKEN.lower(), (PAYER, row.nonce, PAY_TO, 9_999))
    report = confirm_pending_payments()
    row.refresh_from_db()
    assert (report.final, report.out_of_reach, row.state) == (0, 1, "settled")


@pytest.mark.parametrize(
    ("usd", "depth"), [("0.01", 1), ("9.99", 1), ("10", 3), ("999", 3), ("1000", 12), (None, 12)]
)
def test_the_depth_grows_with_the_amount(node, settings, usd, depth) -> None:
    configure(settings, CONFIRMATIONS=[(0, 1), (Decimal("10"), 3), (1000, 12)])
    price = None if usd is None else Decimal(usd)
    put_on_chain(node, payments(2, price_usd=price), [100])
    for height in range(100, 112):
        node.head = height
        report = confirm_pending_payments()
        assert report.final == (2 if height == 99 + depth else 0)
    reason = Payment.objects.first().events.get(to_state="final").reason
    assert reason == f"{depth} confirmations."


@pytest.mark.parametrize("tag", ["safe", "finalized"])
def test_a_tag_of_the_chain_as_depth(node, settings, tag) -> None:
    configure(settings, CONFIRMATIONS=tag)
    put_on_chain(node, payments(2), [100])
    node.head = 200
    for stands in (None, 60, 99):
        node.tags = {tag: stands}
        assert confirm_pending_payments().final == 0
    node.tags = {tag: 100}
    assert confirm_pending_payments().final == 2
    assert Payment.objects.first().events.get(to_state="final").reason == f"Its block is {tag}."


def test_hashes_are_kept_until_finality(node, settings) -> None:
    configure(settings, CONFIRMATIONS=1_000)
    put_on_chain(node, payments(2), [150])
    for height in range(200, 1_300, 100):
        node.head = height
        confirm_pending_payments()
        numbers = sorted(ScannedBlock.objects.values_list("number", flat=True))
        final = height > 1_149
        assert numbers == list(range(1_000 if final else 200, height + 1, 100))
    assert Payment.objects.filter(state="final").count() == 2
