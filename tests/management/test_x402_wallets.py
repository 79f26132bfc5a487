"""``manage.py x402_wallets``: what it prints, to the letter, and when it calls for attention."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.chain.fixtures import chain
from tests.chain.support import NETWORK, SETTLER, direct, node_down, x402_settings
from tests.payments.onchain import settled
from tests.settings import X402
from x402_django import clock
from x402_django.models import ChainTransaction, SettlementWallet
from x402_django.testing.chain import send_transaction

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    out = io.StringIO()
    try:
        call_command("x402_wallets", *arguments, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def wallet() -> dict[str, Any]:
    status, text = run("--json")
    answer = json.loads(text)
    [one] = answer["wallets"]
    assert answer["attention"] == bool(one["attention"]) == bool(status)
    return one


def waiting(chain) -> ChainTransaction:
    """A settlement that no block has taken yet."""
    chain.set_automine(False)
    with pytest.raises(Exception, match="not known yet"):
        settled()
    return ChainTransaction.objects.latest("pk")


def test_a_wallet_that_is_well(chain):
    settled()
    settled()
    wei = direct().eth.get_balance(SETTLER.address)
    gas = {row.gas_used for row in ChainTransaction.objects.all()}
    base = direct().eth.get_block("latest")["baseFeePerGas"]
    price = 2 * base + direct().eth.max_priority_fee
    whole, fraction = divmod(wei, 10**18)
    status, text = run()
    assert (status, text) == (
        0,
        f"{SETTLER.address} on {NETWORK}\n"
        f"  balance     {whole}.{str(fraction).zfill(18).rstrip('0')} ({wei} wei)\n"
        f"  enough for  about {wei // (round(sum(gas) / len(gas)) * price)} settlements\n"
        "  next nonce  2\n"
        "  on chain    2 mined, 2 with pending\n"
        "  not mined   0\n"
        "All is well.\n",
    )


def test_a_wallet_that_was_never_used(chain):
    status, text = run()
    assert status == 0
    assert "  next nonce  none used yet\n  on chain    0 mined, 0 with pending\n" in text
    assert f"  balance     10000.00 ({10**22} wei)\n" in text


def test_json(chain):
    settled()
    wei = direct().eth.get_balance(SETTLER.address)
    one = wallet()
    assert one.pop("settlements_left") > 10**6
    assert one == {
        "network": NETWORK,
        "address": SETTLER.address,
        "next_nonce": 1,
        "balance": str(wei),
        "mined_nonce": 1,
        "pending_nonce": 1,
        "open_count": 0,
        "open": [],
        "attention": [],
    }


def test_an_open_transaction_is_shown_and_once_stuck_needs_attention(chain):
    row = waiting(chain)
    one = wallet()
    assert one["attention"] == []
    assert (one["next_nonce"], one["mined_nonce"], one["pending_nonce"]) == (1, 0, 1)
    [shown] = one["open"]
    assert shown.pop("age") == pytest.approx(0, abs=5)
    assert shown == {
        "hash": row.hash,
        "nonce": 0,
        "status": "sent",
        "sends": 1,
        "last_error": "",
        "is_stuck": False,
    }
    with clock.shifted(timedelta(minutes=10)):
        status, text = run()
    assert status == 1
    line = rf"    nonce 0, {row.hash}, sent, 60\d s old, sent 1 times, STUCK\n"
    assert re.search(line, text)
    assert "  ATTENTION  1 transaction not mined for longer than 31 s.\n" in text
    assert text.endswith("Something needs attention.\n")


def test_low_balance(chain, settings):
    row = waiting(chain)
    ChainTransaction.objects.filter(pk=row.pk).update(gas_used=10**15)
    assert wallet()["settlements_left"] < 100
    assert re.fullmatch(
        r"The balance is low: enough for about \d+ settlements\.", wallet()["attention"][0]
    )
    assert run("--minimum", "0")[0] == 0


def test_a_gap_in_the_nonces(chain):
    row = waiting(chain)
    SettlementWallet.objects.update(next_nonce=3)
    ChainTransaction.objects.filter(pk=row.pk).update(nonce=1)
    assert wallet()["attention"] == [
        "2 nonces from 0 on without a transaction: later ones cannot be mined."
    ]


def test_a_key_that_is_used_elsewhere(chain):
    from eth_account import Account

    settled()
    account = Account.from_key(SETTLER.private_key)
    send_transaction(direct(), account, {"to": "0x" + "77" * 20, "value": 1})
    assert wallet()["attention"] == [
        "The chain is 1 nonce ahead of the ledger: the key is used elsewhere too."
    ]


def test_a_node_that_is_down_needs_attention(chain):
    settled()
    with node_down():
        one = wallet()
    assert one["attention"] == [
        f"The chain could not be read: The RPC endpoint of {NETWORK} did not answer "
        "(ConnectionError)."
    ]
    assert (one["balance"], one["mined_nonce"], one["next_nonce"]) == (None, None, 1)
    with node_down():
        assert "  balance     unknown\n" in run()[1]


def test_a_wallet_of_a_network_that_is_gone_from_the_settings(chain):
    SettlementWallet.objects.create(network="eip155:10", address=SETTLER.address, next_nonce=4)
    status, text = run()
    assert status == 1
    assert f"{SETTLER.address} on eip155:10\n" in text
    assert run("--network", NETWORK)[0] == 0


def test_no_wallet_of_ours(chain, settings):
    settings.X402 = X402
    assert run() == (
        0, "No settlement wallet: the facilitators are services, which pay the gas.\n"
    )  # fmt: skip


def test_wrong_arguments_and_settings(chain, settings):
    with pytest.raises(CommandError, match="no entry for 'eip155:1'"):
        run("--network", "eip155:1")
    settings.X402 = x402_settings({"KEY": "", "KEY_ENV": "X402_NO_SUCH_VARIABLE"})
    with pytest.raises(CommandError, match="X402_NO_SUCH_VARIABLE is not set"):
        run()


def test_no_key_is_shown(chain):
    settled()
    for arguments in ((), ("--json",)):
        assert SETTLER.private_key[2:] not in run(*arguments)[1].lower()
