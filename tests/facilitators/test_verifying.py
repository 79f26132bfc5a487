"""Plain payments that are verified at the same moment share a call, and nothing else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from eth_account import Account
from web3 import HTTPProvider, Web3

from tests.chain import support
from tests.chain.anvil import running_anvil
from tests.chain.support import NETWORK, PRICE, SETTLER, direct, node_down, sign, x402_settings
from x402_django.chain import rehearsal
from x402_django.chain.devchain import DevChain
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.constants import Code
from x402_django.exceptions import FacilitatorUnavailable, PaymentRefused
from x402_django.facilitators.base import get_facilitator
from x402_django.facilitators.combining import Combiner
from x402_django.protocol.types import SignedPayment
from x402_django.testing.chain import (
    DOLLAR,
    deploy_smart_wallet,
    install_contracts,
    new_payer,
    send_transaction,
    token_contract,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Gate:
    """Holds the first rehearsal back until the others wait behind it; counts them all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[SignedPayment]] = []
        self.held = threading.Event()
        self.open = threading.Event()
        real = rehearsal.rehearse

        def rehearse(network: str, payments: Any, *, max_gas: int) -> Any:
            self.batches.append(list(payments))
            if len(self.batches) == 1:
                self.held.set()
                assert self.open.wait(20)
            return real(network, payments, max_gas=max_gas)

        monkeypatch.setattr(rehearsal, "rehearse", rehearse)


def verify_behind(gate: Gate, first: SignedPayment, others: list[SignedPayment]) -> list[Any]:
    """What became of ``first`` and of ``others``, all of which waited while it was verified."""
    facilitator = get_facilitator("default")

    def verify(signed: SignedPayment) -> Any:
        try:
            return facilitator.verify(signed)
        except Exception as error:
            return error
        finally:
            connection.close()

    def all_wait() -> bool:
        return len(facilitator._plain.combiner(NETWORK)._waiting) == len(others)

    with ThreadPoolExecutor(1 + len(others)) as pool:
        futures = [pool.submit(verify, first)]
        assert gate.held.wait(20)
        futures += [pool.submit(verify, one) for one in others]
        for _ in range(2000):
            if all_wait():
                break
            threading.Event().wait(0.01)
        assert all_wait()
        gate.open.set()
        return [future.result(20) for future in futures]


def refused(result: Any, code: str) -> bool:
    return isinstance(result, PaymentRefused) and result.code == code


def test_those_who_come_during_a_call_share_the_next(chain: DevChain, monkeypatch) -> None:
    first, *others = [sign(new_payer(chain, 1)) for _ in range(9)]
    gate = Gate(monkeypatch)
    assert verify_behind(gate, first, others) == [None] * 9
    assert [len(batch) for batch in gate.batches] == [1, 8]
    assert support.requests["eth_call"] == 2


def test_bad_ones_in_a_batch_harm_no_other(chain: DevChain, monkeypatch) -> None:
    first, *good = [sign(new_payer(chain, 1)) for _ in range(4)]
    poor = sign(new_payer(chain, 0.009999))
    late = sign(new_payer(chain, 1), valid_before=1_000_000)
    forged = sign(Account.create(), payer=new_payer(chain, 1).address)
    owner = Account.create()
    wallet = deploy_smart_wallet(direct(), owner.address)
    chain.mint(wallet, PRICE)
    batch = [good[0], poor, good[1], good[2]]
    gate = Gate(monkeypatch)

    results = verify_behind(gate, first, batch)

    assert [result is None for result in results] == [True, True, False, True, True]
    assert refused(results[2], Code.INSUFFICIENT_FUNDS)
    assert [len(one) for one in gate.batches] == [1, 4]
    # What is not plain, or late, is rehearsed with nobody.
    get_facilitator("default").verify(sign(owner, payer=wallet))
    for signed, code in ((late, Code.INVALID_VALID_BEFORE), (forged, Code.INVALID_SIGNATURE)):
        with pytest.raises(PaymentRefused) as why:
            get_facilitator("default").verify(signed)
        assert why.value.code == code
    assert len(gate.batches) == 2


def test_a_balance_that_goes_while_a_payment_waits_is_noticed(chain, monkeypatch) -> None:
    first, other = (sign(new_payer(chain, 1)) for _ in range(2))
    thief = new_payer(chain, 1, wei=10**18)
    gate = Gate(monkeypatch)
    enter = gate.open.set

    def empty_the_account_first() -> None:
        call = token_contract(direct()).functions.transfer(SETTLER.address, 1_000_000)
        data = call._encode_transaction_data()
        send_transaction(direct(), thief, {"to": TOKEN_ADDRESS, "data": data, "value": 0})
        enter()

    gate.open.set = empty_the_account_first  # type: ignore[method-assign]
    results = verify_behind(gate, first, [sign(thief), other])
    assert refused(results[1], Code.INSUFFICIENT_FUNDS)
    assert results[::2] == [None, None]


def test_without_an_answer_nobody_is_verified(chain: DevChain, monkeypatch) -> None:
    first, *others = [sign(new_payer(chain, 1)) for _ in range(5)]
    gate = Gate(monkeypatch)
    with node_down("eth_call"):
        results = verify_behind(gate, first, others)
    assert all(isinstance(one, FacilitatorUnavailable) for one in results), results
    assert len(gate.batches) == 2
    assert verify_behind(Gate(monkeypatch), first, others) == [None] * 5


def test_one_payer_twice_with_the_money_for_one(chain: DevChain, monkeypatch) -> None:
    payer = new_payer(chain, 0.015)
    gate = Gate(monkeypatch)
    both = [sign(payer), sign(payer)]
    # Each would settle; which of them does is for the chain to say.
    assert verify_behind(gate, sign(new_payer(chain, 1)), both) == [None] * 3


def test_an_address_without_a_contract_is_no_token(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1), token="0x" + "ab" * 20)
    with pytest.raises(PaymentRefused):
        get_facilitator("default").verify(signed)


@pytest.mark.anvil
def test_a_payer_whose_code_burns_the_gas_harms_no_other(settings, monkeypatch) -> None:
    with running_anvil() as url:
        settings.X402 = x402_settings(PROVIDER=None, RPC_URLS=[url])
        w3 = Web3(HTTPProvider(url))
        install_contracts(w3)
        rich = Account.from_key(dev_accounts()[4].private_key)
        payers = [Account.create() for _ in range(5)]
        for payer in payers:
            mint = token_contract(w3).encode_abi("mint", [payer.address, DOLLAR])
            send_transaction(w3, rich, {"to": TOKEN_ADDRESS, "data": mint})
        burner = payers[2].address
        w3.provider.make_request("anvil_setCode", [burner, "0x5b600056"])  # for ever
        first, *others = map(sign, payers)
        gate = Gate(monkeypatch)
        results = verify_behind(gate, first, others)
    assert [result is None for result in results] == [True, True, False, True, True]
    assert isinstance(results[2], PaymentRefused)
    assert [len(batch) for batch in gate.batches] == [1, 4, 3]


# ---------------------------------------------------------------------------- combining


def test_a_leader_that_breaks_off_harms_nobody() -> None:
    held, go = threading.Event(), threading.Event()
    calls: list[list[int]] = []

    class Killed(BaseException):
        pass

    def work(items: Any) -> list[int]:
        calls.append(list(items))
        if len(calls) == 1:
            held.set()
            assert go.wait(20)
        if items[0] == 1:
            raise Killed
        return [item * item for item in items]

    square = Combiner(work, most=3)

    def run(item: int) -> Any:
        try:
            return square(item)
        except Killed as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(run, 0)]
        assert held.wait(20)
        for item in range(1, 6):
            futures.append(pool.submit(run, item))
            while len(square._waiting) < item:
                threading.Event().wait(0.005)
        go.set()
        results = [future.result(20) for future in futures]
    assert isinstance(results[1], Killed)
    assert results[:1] + results[2:] == [0, 4, 9, 16, 25]
    assert calls == [[0], [1, 2, 3], [2, 3, 4], [5]]
    assert square(6) == 36
