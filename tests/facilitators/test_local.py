"""LocalFacilitator against a real EVM: exact balances, exact outcomes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from eth_account import Account

from tests.chain import support
from tests.chain.support import (
    NETWORK,
    PRICE,
    SETTLER,
    answers_lost,
    direct,
    facilitator_body,
    node_down,
    sign,
    store,
)
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain import groups, outbox
from x402_django.chain.devchain import DevChain
from x402_django.chain.evidence import authorization_used, find_settlement
from x402_django.constants import Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.models import ChainTransaction, SettlementWallet
from x402_django.testing.chain import (
    deploy_contract,
    deploy_smart_wallet,
    new_payer,
    running_devchain,
    send_transaction,
    token_contract,
)
from x402_django.testing.submission import submit_authorization

pytestmark = pytest.mark.django_db(transaction=True)


def settle(signed, payment=None):
    return get_facilitator("default").settle(signed, payment or store(signed))


def verify(signed):
    get_facilitator("default").verify(signed)


def settler_nonce() -> int:
    return direct().eth.get_transaction_count(SETTLER.address)


# ------------------------------------------------------------------ settling


def test_an_eoa_payment_settles_to_the_last_unit(chain: DevChain) -> None:
    payer = new_payer(chain, 1)
    signed = sign(payer)
    verify(signed)
    payment = store(signed)

    settlement = settle(signed, payment)

    assert chain.dollars(payer.address) == 1_000_000 - PRICE
    assert chain.dollars(PAY_TO) == PRICE
    row = ChainTransaction.objects.get()
    assert ([*row.payments.all()], row.status, row.nonce, row.sends) == ([payment], "mined", 0, 1)
    assert row.hash == settlement.transaction
    assert (row.block_number, row.block_hash) == (settlement.block_number, settlement.block_hash)
    receipt = direct().eth.get_transaction_receipt(row.hash)
    assert row.gas_used == receipt["gasUsed"] > 0
    assert row.effective_gas_price == receipt["effectiveGasPrice"] > 0
    assert direct().eth.get_transaction(row.hash)["hash"].hex() == row.hash[2:]
    evidence = find_settlement(signed)
    assert evidence is not None
    assert evidence.log_index == settlement.log_index == 1
    assert SettlementWallet.objects.get().next_nonce == settler_nonce() == 1


def test_a_payment_costs_few_rpc_calls(chain: DevChain) -> None:
    payer = new_payer(chain, 1)
    warm_up, signed = sign(payer), sign(payer)
    verify(warm_up)
    settle(warm_up)

    support.requests.clear()
    verify(signed)
    assert support.requests == {"eth_call": 1}

    support.requests.clear()
    settle(signed)
    assert support.requests == {
        "eth_call": 1,
        "eth_getBlockByNumber": 1,
        "eth_maxPriorityFeePerGas": 1,
        "eth_sendRawTransaction": 1,
        "eth_getTransactionReceipt": 1,
    }


def test_a_contract_wallet_pays(chain: DevChain) -> None:
    owner = Account.create()
    wallet = deploy_smart_wallet(direct(), owner.address)
    chain.mint(wallet, PRICE)
    signed = sign(owner, payer=wallet)

    verify(signed)
    settle(signed)

    assert chain.dollars(wallet) == 0
    assert chain.dollars(PAY_TO) == PRICE


def test_settling_again_returns_the_same_settlement(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    payment = store(signed)

    assert settle(signed, payment) == settle(signed, payment)

    assert chain.dollars(PAY_TO) == PRICE
    assert ChainTransaction.objects.count() == 1
    assert settler_nonce() == 1


def test_a_reorganised_transaction_is_sent_again(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    first = settle(signed, payment)
    chain.reorg(1)
    assert chain.dollars(PAY_TO) == 0

    second = settle(signed, payment)

    assert second.transaction == first.transaction
    assert second.block_hash != first.block_hash
    assert chain.dollars(PAY_TO) == PRICE
    row = ChainTransaction.objects.get()
    assert (row.status, row.block_hash, row.sends) == ("mined", second.block_hash, 2)


# ------------------------------------------------------------------- refusing


def nothing_was_sent(chain: DevChain) -> None:
    assert not ChainTransaction.objects.exists()
    assert chain.dollars(PAY_TO) == 0
    assert settler_nonce() == 0


def test_a_payer_without_money_is_refused(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 0.009999))
    with pytest.raises(PaymentRefused) as refused:
        verify(signed)
    assert refused.value.code == Code.INSUFFICIENT_FUNDS

    with pytest.raises(SettlementFailed) as failed:
        settle(signed)
    assert failed.value.code == Code.INSUFFICIENT_FUNDS
    nothing_was_sent(chain)


@pytest.mark.parametrize(
    ("window", "code"),
    [
        ({"valid_before": int(time.time()) - 1}, Code.INVALID_VALID_BEFORE),
        ({"valid_after": int(time.time()) + 50_000}, Code.INVALID_VALID_AFTER),
    ],
)
def test_a_payment_out_of_its_time_is_refused(chain, window, code) -> None:
    signed = sign(new_payer(chain, 1), **window)
    with pytest.raises(PaymentRefused) as refused:
        verify(signed)
    assert refused.value.code == code

    with pytest.raises(SettlementFailed) as failed:
        settle(signed)
    assert failed.value.code == code
    nothing_was_sent(chain)


def test_a_chain_that_stands_still_refuses_nobody(chain: DevChain) -> None:
    """Its clock stands still too: what is valid by ours is not valid yet there."""
    now = int(time.time())
    signed = sign(new_payer(chain, 1), valid_after=now + 600, valid_before=now + 7200)
    with clock.shifted(timedelta(hours=1)):
        with pytest.raises(FacilitatorUnavailable):
            verify(signed)
        with pytest.raises(FacilitatorUnavailable):
            settle(signed)
    nothing_was_sent(chain)


def test_a_forged_signature_is_refused(chain: DevChain) -> None:
    victim = new_payer(chain, 1)
    signed = sign(Account.create(), payer=victim.address)
    with pytest.raises(PaymentRefused) as refused:
        verify(signed)
    assert refused.value.code == Code.INVALID_SIGNATURE
    with pytest.raises(SettlementFailed):
        settle(signed)
    nothing_was_sent(chain)
    assert chain.dollars(victim.address) == 1_000_000


def test_a_stranger_cannot_pay_with_somebody_elses_contract_wallet(chain: DevChain) -> None:
    wallet = deploy_smart_wallet(direct(), Account.create().address)
    chain.mint(wallet, PRICE)
    with pytest.raises(PaymentRefused) as refused:
        verify(sign(Account.create(), payer=wallet))
    assert refused.value.code == Code.INVALID_SIGNATURE
    assert chain.dollars(wallet) == PRICE


def test_a_used_authorization_is_refused(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    settle(signed)
    with pytest.raises(PaymentRefused) as refused:
        verify(signed)
    assert refused.value.code == Code.NONCE_USED


def test_a_payment_that_needs_too_much_gas_is_refused(chain, settings) -> None:
    settings.X402 = support.x402_settings({"MAX_GAS": 40_000})
    signed = sign(new_payer(chain, 1))
    with pytest.raises(PaymentRefused):
        verify(signed)
    with pytest.raises(SettlementFailed):
        settle(signed)
    nothing_was_sent(chain)


# ------------------------------------------------------------ somebody else did it


def test_a_front_run_authorization_is_honoured_not_failed(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    verify(signed)
    transaction = submit_authorization(direct(), facilitator_body(signed))

    with pytest.raises(SettlementUnknown):
        settle(signed)

    assert not ChainTransaction.objects.exists()
    assert chain.dollars(PAY_TO) == PRICE
    evidence = find_settlement(signed)
    assert evidence is not None
    assert evidence.transaction == transaction


def test_a_front_run_between_simulation_and_block_is_honoured(chain, monkeypatch) -> None:
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    estimate = groups._gas_limit

    def estimate_then_lose_the_race(*args):
        gas = estimate(*args)
        submit_authorization(direct(), facilitator_body(signed))
        return gas

    monkeypatch.setattr(groups, "_gas_limit", estimate_then_lose_the_race)
    with pytest.raises(SettlementUnknown) as unknown:
        settle(signed, payment)

    row = ChainTransaction.objects.get()
    assert (row.status, unknown.value.transaction) == ("reverted", row.hash)
    assert chain.dollars(PAY_TO) == PRICE
    evidence = find_settlement(signed, transaction=row.hash)
    assert evidence is not None
    assert evidence.transaction != row.hash


def test_money_gone_between_simulation_and_block_is_a_definite_failure(
    chain, settings, monkeypatch
) -> None:
    settings.X402 = {**support.x402_settings(), "SETTLEMENT_TIMEOUT": 20}
    payer = new_payer(chain, 1, wei=10**18)
    signed = sign(payer)
    payment = store(signed)
    estimate = groups._gas_limit

    def estimate_then_empty_the_account(*args):
        gas = estimate(*args)
        data = token_contract(direct()).functions.transfer(SETTLER.address, 1_000_000)
        call = {"to": signed.offer.asset, "data": data._encode_transaction_data(), "value": 0}
        send_transaction(direct(), payer, call)
        return gas

    monkeypatch.setattr(groups, "_gas_limit", estimate_then_empty_the_account)
    with pytest.raises(SettlementFailed) as failed:
        settle(signed, payment)
    monkeypatch.undo()

    row = ChainTransaction.objects.get()
    assert (row.status, failed.value.transaction) == ("reverted", row.hash)
    assert chain.dollars(PAY_TO) == 0
    assert not authorization_used(signed)
    # The authorization is still good: with money on the account again, a second try settles.
    chain.mint(payer.address, PRICE)
    settlement = settle(signed, payment)
    assert settlement.transaction != row.hash
    assert chain.dollars(PAY_TO) == PRICE


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [(1, SettlementFailed), (3, SettlementUnknown), (4, SettlementFailed), (5, SettlementUnknown)],
)
def test_a_token_that_lies_proves_nothing(chain, mode, outcome) -> None:
    token = deploy_contract(direct(), "LyingDollar")
    contract = token_contract(direct(), token)
    payer = new_payer(chain, 0)
    for call in (
        contract.functions.mint(payer.address, PRICE)._encode_transaction_data(),
        _set_mode(mode),
    ):
        send_transaction(direct(), Account.from_key(SETTLER.private_key), _to(token, call))
    signed = sign(payer, token=token)

    with pytest.raises(outcome):
        settle(signed)

    assert find_settlement(signed) is None


def _set_mode(mode: int) -> str:
    from eth_utils.crypto import keccak

    return "0x" + (keccak(text="setMode(uint8)")[:4] + mode.to_bytes(32, "big")).hex()


def _to(address: str, data: str) -> dict:
    return {"to": address, "data": data, "value": 0}


# ------------------------------------------------------------------- node trouble


def test_without_a_node_nothing_is_sent_and_nothing_is_blamed_on_the_payer(chain) -> None:
    signed = sign(new_payer(chain, 1))
    verify(signed)
    with node_down():
        with pytest.raises(FacilitatorUnavailable) as unavailable:
            verify(signed)
        with pytest.raises(FacilitatorUnavailable):
            settle(signed)
    assert "secret" not in str(unavailable.value)
    nothing_was_sent(chain)


def test_a_node_that_fails_in_between_is_not_the_payers_fault(chain) -> None:
    wallet = deploy_smart_wallet(direct(), (owner := Account.create()).address)
    chain.mint(wallet, PRICE)
    contract, plain = sign(owner, payer=wallet), sign(new_payer(chain, 1))
    for signed, method in ((contract, "eth_getCode"), (contract, "eth_call"), (plain, "eth_call")):
        with node_down(method), pytest.raises(FacilitatorUnavailable):
            verify(signed)


def test_a_lost_answer_to_the_broadcast_is_unknown_and_settles_once(chain) -> None:
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    with (
        answers_lost("eth_sendRawTransaction"),
        node_down("eth_getTransactionReceipt"),
        pytest.raises(SettlementUnknown) as unknown,
    ):
        settle(signed, payment)
    row = ChainTransaction.objects.get()
    assert (row.status, row.sends, unknown.value.transaction) == ("signed", 1, row.hash)
    assert chain.dollars(PAY_TO) == PRICE

    assert settle(signed, payment).transaction == row.hash
    assert chain.dollars(PAY_TO) == PRICE
    assert ChainTransaction.objects.get().status == "mined"


def test_a_transaction_not_mined_in_time_is_unknown(chain) -> None:
    chain.set_automine(False)
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    with pytest.raises(SettlementUnknown) as unknown:
        settle(signed, payment)
    assert unknown.value.transaction == ChainTransaction.objects.get().hash
    assert chain.dollars(PAY_TO) == 0

    chain.mine()
    assert settle(signed, payment).transaction == unknown.value.transaction
    assert chain.dollars(PAY_TO) == PRICE


def test_a_crash_between_commit_and_broadcast_loses_nothing(chain, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    def die(row, **how):
        raise Killed

    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "broadcast", die)
        with pytest.raises(Killed):
            settle(signed, payment)
    row = ChainTransaction.objects.get()
    assert (row.status, row.sends, row.nonce) == ("signed", 0, 0)
    assert chain.dollars(PAY_TO) == 0

    settlement = settle(signed, payment)

    assert settlement.transaction == row.hash
    assert chain.dollars(PAY_TO) == PRICE
    assert ChainTransaction.objects.count() == 1
    assert settler_nonce() == SettlementWallet.objects.get().next_nonce == 1


def test_a_transaction_that_lost_its_nonce_is_replaced(chain, monkeypatch) -> None:
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "broadcast", lambda row, **how: outbox.Verdict.UNKNOWN)
        with pytest.raises(SettlementUnknown):
            settle(signed, payment)
    send_transaction(direct(), Account.from_key(SETTLER.private_key), {"to": PAY_TO, "value": 1})

    settlement = settle(signed, payment)

    rows = ChainTransaction.objects.order_by("nonce")
    # Two are dropped: the lost one, and the attempt that found the count to be behind.
    assert [row.status for row in rows][-1] == "mined"
    assert {row.status for row in rows} == {"dropped", "mined"}
    assert rows.get(status="mined").hash == settlement.transaction
    assert chain.dollars(PAY_TO) == PRICE
    assert settler_nonce() == SettlementWallet.objects.get().next_nonce


def test_a_wallet_without_gas_money_is_unavailable(chain, settings) -> None:
    poor = Account.create()
    settings.X402 = support.x402_settings({"KEY": "0x" + bytes(poor.key).hex()})
    signed = sign(new_payer(chain, 1))
    verify(signed)
    payment = store(signed)
    with pytest.raises(FacilitatorUnavailable):
        settle(signed, payment)
    assert [row.status for row in ChainTransaction.objects.all()] == ["dropped"]
    assert SettlementWallet.objects.get().next_nonce == 0
    assert chain.dollars(PAY_TO) == 0

    chain.fund(poor.address, 10**18)
    settle(signed, payment)
    assert chain.dollars(PAY_TO) == PRICE
    assert ChainTransaction.objects.get(status="mined").nonce == 0


def test_a_node_of_another_chain_is_a_configuration_error(chain, settings) -> None:
    signed = sign(new_payer(chain, 1))
    x402 = support.x402_settings()
    x402["NETWORKS"] = {"eip155:8453": {"PROVIDER": "tests.chain.support.wrong_provider"}}
    settings.X402 = x402
    other = sign_for(signed, "eip155:8453")
    with pytest.raises(ConfigurationError, match="serves chain 1337, not 8453"):
        verify(other)
    with pytest.raises(ConfigurationError):
        settle(other, store(signed))
    nothing_was_sent(chain)


def sign_for(signed, network):
    from dataclasses import replace

    return replace(signed, offer=replace(signed.offer, network=network))


# -------------------------------------------------------------------- concurrency


def in_threads(count, work):
    barrier = threading.Barrier(count)

    def run(item):
        try:
            barrier.wait(10)
            return work(item)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run, i) for i in range(count)]]


def test_eight_payments_at_once_take_eight_nonces_without_a_gap(chain, settings) -> None:
    settings.X402 = {**support.x402_settings({"GROUP_SIZE": 1}), "SETTLEMENT_TIMEOUT": 20}
    signed = [sign(new_payer(chain, 1)) for _ in range(8)]
    payments = [store(one) for one in signed]

    settlements = in_threads(8, lambda i: settle(signed[i], payments[i]))

    assert chain.dollars(PAY_TO) == 8 * PRICE
    rows = ChainTransaction.objects.order_by("nonce")
    assert [row.nonce for row in rows] == list(range(8))
    assert {row.status for row in rows} == {"mined"}
    assert {s.transaction for s in settlements} == {row.hash for row in rows}
    assert settler_nonce() == SettlementWallet.objects.get().next_nonce == 8


def test_one_payment_settled_by_four_at_once_is_one_transaction(chain, settings) -> None:
    settings.X402 = {**support.x402_settings(), "SETTLEMENT_TIMEOUT": 20}
    signed = sign(new_payer(chain, 1))
    payment = store(signed)

    settlements = in_threads(4, lambda _: settle(signed, payment))

    assert len(set(settlements)) == 1
    assert chain.dollars(PAY_TO) == PRICE
    assert ChainTransaction.objects.count() == 1
    assert settler_nonce() == SettlementWallet.objects.get().next_nonce == 1


def test_supported_is_every_network_with_a_node(chain) -> None:
    facilitator = get_facilitator("default")
    assert facilitator.supported() == {
        ("exact", NETWORK),
        ("upto", NETWORK),
        ("batch-settlement", NETWORK),
    }
    assert facilitator.supports(NETWORK, "exact")
    assert not facilitator.supports(NETWORK, "deferred")


# ------------------------------------------------- wallets that do not exist yet (ERC-6492)


def undeployed_payment(chain, owner):
    from dataclasses import replace

    from eth_abi import encode

    from x402_django.chain.devchain.artifacts import load_artifact
    from x402_django.chain.devchain.deployment import FACTORY_ADDRESS
    from x402_django.testing.chain import smart_wallet_address

    wallet = smart_wallet_address(direct(), owner.address)
    chain.mint(wallet, PRICE)
    signed = sign(owner, payer=wallet)
    factory = direct().eth.contract(
        address=FACTORY_ADDRESS, abi=load_artifact("SmartWalletFactory").abi
    )
    create = factory.functions.create(owner.address, bytes(32))._encode_transaction_data()
    wrapped = encode(
        ["address", "bytes", "bytes"],
        [FACTORY_ADDRESS, bytes.fromhex(create[2:]), signed.signature],
    )
    return replace(signed, signature=wrapped + bytes.fromhex("6492" * 16))


def test_by_default_nobodys_factory_is_called(chain: DevChain) -> None:
    signed = undeployed_payment(chain, Account.create())
    with pytest.raises(PaymentRefused) as refused:
        verify(signed)
    assert refused.value.code == "eip6492_factory_not_allowed"
    with pytest.raises(SettlementFailed):
        settle(signed)
    nothing_was_sent(chain)
    assert direct().eth.get_code(signed.payer) == b""


def test_an_allowed_factory_deploys_the_payers_wallet(chain, settings) -> None:
    from x402_django.chain.devchain.deployment import FACTORY_ADDRESS

    settings.X402 = support.x402_settings({"ALLOWED_FACTORIES": [FACTORY_ADDRESS]})
    signed = undeployed_payment(chain, Account.create())
    payment = store(signed)
    verify(signed)
    assert direct().eth.get_code(signed.payer) == b""

    settlement = settle(signed, payment)

    deployment, transfer = ChainTransaction.objects.order_by("nonce")
    assert (deployment.nonce, deployment.payments_count, deployment.status) == (0, 0, "mined")
    assert (transfer.nonce, transfer.payments.get(), transfer.status) == (1, payment, "mined")
    assert settlement.transaction == transfer.hash
    assert chain.dollars(PAY_TO) == PRICE


def test_a_node_that_does_not_know_the_new_wallet_yet_is_waited_for(
    chain, settings, monkeypatch
) -> None:
    """After the deployment another endpoint answers, one block behind."""
    from x402_django.chain.devchain.deployment import FACTORY_ADDRESS

    settings.X402 = support.x402_settings({"ALLOWED_FACTORIES": [FACTORY_ADDRESS]})
    signed = undeployed_payment(chain, Account.create())
    payment = store(signed)
    original, late = support.FaultyProvider.make_request, [3]

    def behind(self, method, params):
        if method == "eth_getCode" and ChainTransaction.objects.exists() and late[0]:
            late[0] -= 1
            return {"jsonrpc": "2.0", "id": 0, "result": "0x"}
        if method == "eth_estimateGas" and params[0]["to"] == signed.offer.asset and late[0]:
            error = {"code": 3, "message": "execution reverted: FiatTokenV2: invalid signature"}
            return {"jsonrpc": "2.0", "id": 0, "error": error}
        return original(self, method, params)

    monkeypatch.setattr(support.FaultyProvider, "make_request", behind)
    settle(signed, payment)
    assert (late, chain.dollars(PAY_TO)) == ([0], PRICE)
    assert ChainTransaction.objects.filter(status="mined").count() == 2


def test_a_used_nonce_is_no_failure_though_the_next_node_is_behind(chain, monkeypatch) -> None:
    """The one that is asked whether the authorization was used does not know it yet."""
    from x402_django.chain import evidence

    signed = sign(new_payer(chain, 1))
    submit_authorization(direct(), facilitator_body(signed))
    monkeypatch.setattr(evidence, "authorization_used", lambda signed: False)
    with pytest.raises(SettlementUnknown):
        settle(signed)


def test_contract_wallets_do_not_wait_for_each_others_blocks(chain, settings) -> None:
    settings.X402 = {**support.x402_settings(), "SETTLEMENT_TIMEOUT": 20}
    batch = []
    for _ in range(3):
        wallet = deploy_smart_wallet(direct(), (owner := Account.create()).address)
        chain.mint(wallet, PRICE)
        batch.append(sign(owner, payer=wallet))
    pairs = [(one, store(one)) for one in batch]
    chain.set_automine(False)
    before = chain.height
    miner = threading.Thread(target=_mine_once_all_wait, args=(chain, 3))
    miner.start()
    results = get_facilitator("default").settle_many(pairs)
    miner.join()
    assert {one.block_number for one in results} == {before + 1}
    assert chain.dollars(PAY_TO) == 3 * PRICE


def _mine_once_all_wait(chain, count) -> None:
    deadline = time.monotonic() + 15
    while ChainTransaction.objects.filter(status="sent").count() < count:
        assert time.monotonic() < deadline, "they wait for each other"
        time.sleep(0.02)
    chain.mine()
    connection.close()


# ------------------------------------------------------------------------ over HTTP


def test_over_http_with_a_dead_endpoint_first(settings, caplog) -> None:
    caplog.set_level("DEBUG")
    with running_devchain() as server:
        settings.X402 = support.x402_settings(
            PROVIDER=None, RPC_URLS=["http://127.0.0.1:9/v2/very-secret-key", server.url]
        )
        signed = sign(new_payer(server.chain, 1))
        verify(signed)
        settlement = settle(signed)
        assert server.chain.dollars(PAY_TO) == PRICE
        assert find_settlement(signed).transaction == settlement.transaction
    ours = [record.getMessage() for record in caplog.records if record.name != "urllib3"]
    assert not [text for text in ours if SETTLER.private_key[2:] in text]
    assert not [text for text in ours if signed.signature.hex() in text]
