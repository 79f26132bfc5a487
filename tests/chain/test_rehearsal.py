"""The rehearsal against what then happens on chain, and nodes that do not run it."""

from __future__ import annotations

import pytest
from eth_account import Account

from tests.chain import support
from tests.chain.support import (
    NETWORK,
    PRICE,
    SETTLER,
    answers_forged,
    direct,
    node_down,
    sign,
)
from tests.settings import PAY_TO
from x402_django.chain import fees, multicall, rehearsal
from x402_django.chain.devchain import DevChain
from x402_django.chain.rehearsal import CannotRehearse, rehearse
from x402_django.chain.rpc import get_web3
from x402_django.exceptions import RpcUnavailable
from x402_django.protocol.types import SignedPayment
from x402_django.testing.chain import deploy_smart_wallet, new_payer, send_transaction
from x402_django.testing.submission import submit_authorization

GAS = 6_000_000


def send(batch: list[SignedPayment]) -> int:
    """Settle ``batch`` in one transaction; what gas that used."""
    target, data = multicall.settling_call(batch)
    account = Account.from_key(SETTLER.private_key)
    call = {"to": target, "data": "0x" + data.hex(), "gas": 12_000_000}
    receipt = send_transaction(direct(), account, call)
    assert receipt["status"] == 1
    return receipt["gasUsed"]


@pytest.mark.parametrize("count", [1, 2, 7, rehearsal.MOST])
def test_what_settles_and_the_gas_it_uses(chain: DevChain, count: int) -> None:
    batch = [sign(new_payer(chain, 1)) for _ in range(count)]
    get_web3(NETWORK)
    support.requests.clear()
    seen = rehearse(NETWORK, batch, max_gas=12_000_000)
    assert support.requests == {"eth_call": 1}
    assert (seen.settles, seen.plain) == ((True,) * count, (True,) * count)
    assert chain.dollars(PAY_TO) == 0
    used = send(batch)
    assert used <= seen.gas <= used + 3_000  # the target is cold for a call
    assert chain.dollars(PAY_TO) == count * PRICE
    again = rehearse(NETWORK, batch, max_gas=12_000_000)
    assert again.settles == (False,) * count


def test_each_is_told_apart(chain: DevChain) -> None:
    poor, used = sign(new_payer(chain, 0)), sign(new_payer(chain, 1))
    submit_authorization(direct(), support.facilitator_body(used))
    wallet = deploy_smart_wallet(direct(), (owner := Account.create()).address)
    chain.mint(wallet, PRICE)
    nowhere = sign(new_payer(chain, 1), token="0x" + "ab" * 20)
    good = [sign(new_payer(chain, 1)) for _ in range(2)]
    seen = rehearse(
        NETWORK, [good[0], poor, sign(owner, payer=wallet), used, nowhere, good[1]], max_gas=GAS
    )
    assert [s and p for s, p in zip(seen.settles, seen.plain, strict=True)] == [
        True,
        False,
        False,
        False,
        False,  # calling an address without code succeeds, and pays nobody
        True,
    ]
    assert seen.plain == (True, True, False, True, True, True)
    for one, settles in ((poor, False), (nowhere, False), (good[0], True)):
        assert rehearse(NETWORK, [one], max_gas=GAS).settles == (settles,)


def test_without_multicall_only_one_can_be_rehearsed(chain, monkeypatch) -> None:
    monkeypatch.setattr(multicall, "MULTICALL3", "0x" + "cd" * 20)
    batch = [sign(new_payer(chain, 1)) for _ in range(2)]
    with pytest.raises(CannotRehearse):
        rehearse(NETWORK, batch, max_gas=GAS)
    assert rehearse(NETWORK, batch[:1], max_gas=GAS).settles == (True,)


@pytest.mark.parametrize("answer", [None, "0x", "text", 7, "0x" + "00" * 64, "0x" + "01" * 200])
def test_an_answer_that_is_none(chain: DevChain, answer) -> None:
    batch = [sign(new_payer(chain, 1)) for _ in range(2)]
    with answers_forged(eth_call=answer), pytest.raises(CannotRehearse):
        rehearse(NETWORK, batch, max_gas=GAS)


def test_too_little_gas_and_no_node(chain: DevChain) -> None:
    batch = [sign(new_payer(chain, 1)) for _ in range(4)]
    with pytest.raises(CannotRehearse):
        rehearse(NETWORK, batch, max_gas=30_000)
    with node_down(), pytest.raises(RpcUnavailable):
        rehearse(NETWORK, batch, max_gas=GAS)


def test_a_network_that_counts_more_as_gas_is_believed_for_a_while(chain, monkeypatch) -> None:
    batch = [sign(new_payer(chain, 1))]
    counted = rehearse(NETWORK, batch, max_gas=GAS).gas
    target, data = multicall.settling_call(batch)
    call = {"from": SETTLER.address, "to": target, "data": "0x" + data.hex()}
    now = [1000.0]
    monkeypatch.setattr(fees.time, "monotonic", lambda: now[0])

    def limit() -> int:
        return fees.gas_limit(get_web3(NETWORK), NETWORK, call, counted)

    with answers_forged(eth_estimateGas=hex(3 * counted)):
        assert limit() == 3 * counted * 5 // 4
    support.requests.clear()
    now[0] += 59
    assert limit() == 3 * counted * 5 // 4
    assert support.requests == {}
    now[0] += 2
    assert counted * 5 // 4 <= limit() <= counted * 1.3
    assert support.requests == {"eth_estimateGas": 1}
