"""``manage.py x402_wallets``: what it prints, to the letter, and when it calls for attention."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.admin.rows import make_method
from tests.chain.fixtures import chain
from tests.chain.support import NETWORK, SETTLER, direct, node_down, x402_settings
from tests.payments.onchain import settled
from tests.settings import X402
from x402_django import clock
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.models import ChainTransaction, SettlementWallet
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.wallet_metrics import METRICS, wallet_samples
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


def test_all_wallets_of_a_pool_and_those_behind_others(chain, settings):
    """Also where the network's facilitator only asks the one that has the wallets."""
    keys = [dev_accounts()[index].private_key for index in (2, 4)]
    x402 = x402_settings({"WALLETS": [{"KEY": key} for key in keys]})
    own = x402["FACILITATORS"].pop("default")
    del own["OPTIONS"]["KEY"]
    x402["FACILITATORS"] = {
        "default": {
            "BACKEND": "x402_django.facilitators.FailoverFacilitator",
            "OPTIONS": {"FACILITATORS": ["own"]},
        },
        "own": own,
    }
    settings.X402 = x402
    status, text = run("--json")
    assert status == 0
    assert {one["address"] for one in json.loads(text)["wallets"]} == {
        dev_accounts()[2].address, dev_accounts()[4].address
    }  # fmt: skip


def test_a_wallet_that_a_payment_method_names(chain, settings):
    own = settings.X402["FACILITATORS"]["default"]
    service = {"BACKEND": "x402_django.facilitators.presets.X402OrgFacilitator"}
    settings.X402 = {**settings.X402, "FACILITATORS": {"default": service, "own": own}}
    assert run()[1].startswith("No settlement wallet")
    make_method(network=NETWORK, facilitator="own", active=True)
    assert run()[1].startswith(f"{SETTLER.address} on {NETWORK}\n")


# ------------------------------------------------------------------------------- metrics


def metrics() -> dict[str, str]:
    """The numbers of the one wallet, by name."""
    status, text = run("--metrics")
    assert status == 0
    labels = f'{{network="{NETWORK}",wallet="{SETTLER.address}"}} '
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.split(labels) for line in lines)


def test_metrics_are_what_the_ledger_knows(chain, settings):
    settings.X402 = x402_settings({"LOW_BALANCE": "1000000000"})
    settled()
    gas = ChainTransaction.objects.get().gas_used
    confirm_pending_payments()
    wei = direct().eth.get_balance(SETTLER.address)
    with node_down():
        found = metrics()
    age = float(found.pop("x402_wallet_balance_age_seconds"))
    assert age == pytest.approx(0, abs=60)
    assert found == {
        "x402_wallet_balance_wei": str(wei),
        "x402_wallet_low_balance_wei": str(10**27),
        "x402_wallet_balance_is_low": "1",
        "x402_wallet_next_nonce": "1",
        "x402_wallet_open_transactions": "0",
        "x402_wallet_oldest_open_seconds": "0",
        "x402_wallet_fee_bumps": "0",
        "x402_wallet_gas_last_hour": str(gas),
    }


def test_metrics_of_what_waits(chain):
    row = waiting(chain)
    ChainTransaction.objects.update(bumps=2)
    with clock.shifted(timedelta(minutes=10)):
        found = metrics()
    assert float(found.pop("x402_wallet_oldest_open_seconds")) == pytest.approx(600, abs=60)
    assert found == {  # no balance: it was never looked at
        "x402_wallet_balance_is_low": "0",
        "x402_wallet_next_nonce": "1",
        "x402_wallet_open_transactions": "1",
        "x402_wallet_fee_bumps": "2",
        "x402_wallet_gas_last_hour": str(row.gas_limit),
    }
    ChainTransaction.objects.update(status="dropped")
    assert metrics()["x402_wallet_gas_last_hour"] == "0"
    assert metrics()["x402_wallet_open_transactions"] == "0"


def test_each_metric_is_described_once(chain):
    for network in (NETWORK, "eip155:10"):
        SettlementWallet.objects.create(network=network, address=SETTLER.address, next_nonce=4)
    lines = run("--metrics")[1].splitlines()
    start = lines.index("# TYPE x402_wallet_next_nonce gauge")
    assert lines[start - 1 : start + 3] == [
        "# HELP x402_wallet_next_nonce Transactions ever stored, as the next nonce.",
        "# TYPE x402_wallet_next_nonce gauge",
        f'x402_wallet_next_nonce{{network="eip155:10",wallet="{SETTLER.address}"}} 4',
        f'x402_wallet_next_nonce{{network="{NETWORK}",wallet="{SETTLER.address}"}} 4',
    ]
    assert {sample.name for sample in wallet_samples()} < set(METRICS)


def test_without_wallets_there_are_no_metrics(chain):
    assert run("--metrics") == (0, "")


def test_no_key_is_shown(chain):
    settled()
    for arguments in ((), ("--json",), ("--metrics",)):
        assert SETTLER.private_key[2:] not in run(*arguments)[1].lower()
