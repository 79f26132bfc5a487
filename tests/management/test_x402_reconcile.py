"""``manage.py x402_reconcile``: what it prints, to the letter, and how it exits."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from tests.chain.fixtures import chain
from tests.chain.support import NETWORK, TOKEN_ADDRESS, node_down, x402_settings
from tests.payments.onchain import STRANGER, hash_of, settled, stray_transfer
from tests.settings import PAY_TO
from x402_django.management.commands.x402_reconcile import Command, moment
from x402_django.models import Payment, Receipt
from x402_django.testing.chain import dev_chain, new_payer

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(*arguments: str, stderr: Any = None) -> tuple[int, str]:
    """Exit status and output."""
    out = io.StringIO()
    status = 0
    try:
        call_command("x402_reconcile", *arguments, stdout=out, stderr=stderr or io.StringIO())
    except SystemExit as end:
        status = int(str(end.code))
    except CommandError as error:
        status = error.returncode
    return status, out.getvalue()


@pytest.fixture
def last(chain) -> int:
    """The newest block after two payments, of 0.01 and of 0.000001."""
    settled()
    settled(amount=1)
    return chain.height


def test_books_in_order(last):
    assert run("--from-block", "0") == (
        0,
        f"{NETWORK}, blocks 0 to {last}\n"
        f"  paid to {PAY_TO}\n"
        f"  TUSD {TOKEN_ADDRESS}\n"
        "    on chain               2  0.010001 TUSD\n"
        "      explained            2  0.010001 TUSD\n"
        "    receipts               2  0.010001 TUSD  $0.00, 2 without a price in dollars\n"
        "The books are in order.\n",
    )


def test_books_not_in_order(last):
    lost = settled(amount=30_000)
    dev_chain(NETWORK).reorg(1)
    stray = stray_transfer(PAY_TO, 2_500_000)
    height = dev_chain(NETWORK).height
    receipt = Receipt.objects.get(payment=lost)
    assert run("--from-block", "0", "--network", NETWORK) == (
        1,
        f"{NETWORK}, blocks 0 to {height}\n"
        f"  UNEXPLAINED  block {stray['blockNumber']}, transaction {hash_of(stray)}, log 0: "
        f"2.50 TUSD from {STRANGER.address} to {PAY_TO}; no payment is known for it\n"
        f"  WITHOUT TRANSFER  receipt {receipt.reference} of 0.03 TUSD from {lost.payer} "
        f"to {PAY_TO}, transaction {lost.transaction}; payment {lost.public_id} is settled\n"
        f"  paid to {PAY_TO}\n"
        f"  TUSD {TOKEN_ADDRESS}\n"
        "    on chain               3  2.510001 TUSD\n"
        "      explained            2  0.010001 TUSD\n"
        "      unexplained          1  2.50 TUSD\n"
        "    receipts               3  0.040001 TUSD  $0.00, 3 without a price in dollars\n"
        "      no transfer          1  0.03 TUSD\n"
        "The books are NOT in order.\n",
    )


def test_json(last):
    stray = stray_transfer(PAY_TO, 2**70)
    status, text = run("--from-block", "0", "--json")
    assert status == 1
    nothing = {"count": 0, "units": "0"}
    assert json.loads(text) == {
        "networks": [
            {
                "network": NETWORK,
                "first_block": 0,
                "last_block": stray["blockNumber"],
                "findings": [
                    {
                        "kind": "unexplained",
                        "asset": TOKEN_ADDRESS,
                        "transfer": {
                            "block": stray["blockNumber"],
                            "transaction": hash_of(stray),
                            "log": 0,
                            "from": STRANGER.address,
                            "to": PAY_TO,
                            "units": str(2**70),
                        },
                    }
                ],
                "payees": [PAY_TO],
                "tokens": [
                    {
                        "asset": TOKEN_ADDRESS,
                        "symbol": "TUSD",
                        "decimals": 6,
                        "on_chain": {"count": 3, "units": str(2**70 + 10_001)},
                        "explained": {"count": 2, "units": "10001"},
                        "differing_on_chain": nothing,
                        "on_the_way": nothing,
                        "unexplained": {"count": 1, "units": str(2**70)},
                        "receipts": {"count": 2, "units": "10001"},
                        "differing_receipts": nothing,
                        "without_transfer": nothing,
                        "usd": "0.00",
                        "without_usd": 2,
                    }
                ],
                "in_order": False,
            }
        ],
        "in_order": False,
    }


def test_json_names_the_receipt_and_its_payment(chain):
    lost = settled()
    chain.reorg(1)
    status, text = run("--json")
    [finding] = json.loads(text)["networks"][0]["findings"]
    assert status == 1
    assert finding == {
        "kind": "without_transfer",
        "asset": TOKEN_ADDRESS,
        "receipt": {
            "reference": Receipt.objects.get().reference,
            "transaction": lost.transaction,
            "from": lost.payer,
            "to": PAY_TO,
            "units": "10000",
        },
        "payment": {"id": lost.public_id, "state": "settled"},
    }


def test_empty_period(last):
    assert run("--since", "2001-01-01", "--until", "2001-01-02") == (
        0,
        f"{NETWORK}, no blocks in this period\n"
        f"  paid to {PAY_TO}\n"
        f"  TUSD {TOKEN_ADDRESS}\n"
        "    on chain               0  0.00 TUSD\n"
        "      explained            0  0.00 TUSD\n"
        "    receipts               0  0.00 TUSD\n"
        "The books are in order.\n",
    )


@pytest.mark.parametrize("methods", [("*",), ("eth_getLogs",)])
def test_node_down(last, methods):
    with node_down(*methods):
        status, text = run("--json")
        assert status == 2
        answer = json.loads(text)
        assert answer["in_order"] is None
        assert answer["error"] == f"The RPC endpoint of {NETWORK} did not answer (ConnectionError)."
        assert run()[0] == 2


def test_a_network_that_cannot_be_read_is_not_in_order(chain, settings):
    settled()
    settings.X402 = {**x402_settings(), "NETWORKS": {NETWORK: {}}}
    status, text = run("--json")
    assert (status, json.loads(text)["in_order"]) == (2, None)


def test_a_second_network_without_answer_after_a_first_with(last, settings):
    networks = x402_settings()["NETWORKS"]
    settings.X402 = {
        **x402_settings(),
        "NETWORKS": {**networks, "eip155:84532": {"RPC_URLS": ["http://127.0.0.1:9"]}},
    }
    status, text = run("--json")
    answer = json.loads(text)
    assert (status, answer["in_order"], answer["networks"][0]["in_order"]) == (2, None, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--network", "eip155:1"),
        ("--since", "2026-01-01", "--to-block", "3"),
    ],
)
def test_wrong_arguments_are_no_verdict(chain, arguments):
    assert run(*arguments) == (2, "")


@pytest.mark.parametrize(
    "arguments", [("--since", "yesterday"), ("--since", "2026-02-30"), ("--from-block", "-1")]
)
def test_what_is_no_date_and_no_block_is_refused(chain, arguments):
    with pytest.raises(SystemExit) as end:
        Command().run_from_argv(["manage.py", "x402_reconcile", *arguments])
    assert end.value.code == 2


def test_a_ledger_that_cannot_be_read_is_no_verdict(last):
    def fails(*args: Any) -> None:
        raise OperationalError("the server closed the connection")

    with connection.execute_wrapper(fails):
        assert run() == (2, "")


def test_dates_are_the_sites_own(settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    from django.utils import timezone

    with timezone.override("Asia/Tokyo"):
        assert moment("2026-03-31") == datetime(2026, 3, 30, 15, tzinfo=UTC)
        assert moment("2026-03-31T12:00") == datetime(2026, 3, 31, 3, tzinfo=UTC)
        assert moment("2026-03-31T12:00+01:00") == datetime(2026, 3, 31, 11, tzinfo=UTC)


def test_a_terminal_gets_a_bar_which_is_gone_at_the_end(last):
    screen = Terminal()
    run("--from-block", "0", stderr=screen)
    drawn = screen.getvalue()
    full = f"[{'#' * 30}] 100 %  {NETWORK} blocks {last + 1} of {last + 1}"
    assert full in drawn
    assert drawn.endswith("\r" + " " * len(full) + "\r")


def test_it_changes_nothing(last):
    before = list(Payment.objects.values()), list(Receipt.objects.values())
    stray_transfer(PAY_TO)
    new_payer(dev_chain(NETWORK), 1)
    run()
    assert (list(Payment.objects.values()), list(Receipt.objects.values())) == before
