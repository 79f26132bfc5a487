"""T25: somebody else's transaction hash presented as one's own.

Hashes of transfers to the shop are public the moment they are sent.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3 import Web3

from tests.chain.support import NETWORK, direct
from tests.http.proving import Agent, proof_settings, send_many
from tests.security.conftest import Untouched, earned
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.models import Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.chain import (
    deploy_contract,
    deploy_smart_wallet,
    dev_chain,
    reset_dev_chains,
    send_transaction,
    token_contract,
)
from x402_django.testing.payer import Payer, PayingClient
from x402_django.testing.transfers import send_transfer, sign_proof, transfer_data

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = proof_settings()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def victim(chain) -> Agent:
    return Agent(chain)


@pytest.fixture
def thief(chain) -> Agent:
    return Agent(chain, dollars=0)


def steals_nothing(response: Any, code: str) -> None:
    assert (response.status_code, response.json()["error"]) == (402, code)
    assert not runs
    assert not Receipt.objects.exists()


def submit(agent: Agent, call: dict[str, Any]) -> str:
    """Send a transaction and do not wait for its block; its hash."""
    transaction = {
        **call, "nonce": direct().eth.get_transaction_count(agent.account.address),
        "gas": 100_000, "chainId": 1337,
        "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9,
    }  # fmt: skip
    raw = agent.account.sign_transaction(transaction).raw_transaction
    return "0x" + bytes(direct().eth.send_raw_transaction(raw)).hex()


def test_t25_a_stolen_hash_with_the_thiefs_own_signature(chain, victim, thief):
    mine = thief.challenge()  # the thief had a challenge ready
    challenge = victim.challenge()
    transaction = victim.send(challenge)
    steals_nothing(thief.present(mine, transaction), "invalid_proof_signature")
    assert not Payment.objects.exists()
    assert victim.present(challenge, transaction).status_code == 200  # and the owner gets it


def test_t25_a_stolen_hash_with_the_victims_challenge(chain, victim, thief):
    challenge = victim.challenge()
    transaction = victim.send(challenge)
    steals_nothing(thief.present(challenge, transaction), "invalid_proof_signature")
    assert victim.present(challenge, transaction).status_code == 200


def test_t25_the_victims_signature_under_another_challenge(chain, victim, thief):
    other = thief.challenge("/hidden/")
    challenge = victim.challenge()
    transaction = victim.send(challenge)
    proof = json.loads(sign_proof(victim.account, challenge, transaction)["X-402-Proof"])
    proof["challengeId"] = other["challengeId"]
    response = thief.client.get("/hidden/", headers={"X-402-Proof": json.dumps(proof)})
    steals_nothing(response, "invalid_proof_signature")


def test_t25_a_hash_without_a_signature(chain, victim, thief):
    mine = thief.challenge()
    transaction = victim.send(victim.challenge())
    steals_nothing(thief.present(mine, transaction, signature=None), "proof_not_signed")


def test_t25_a_used_hash_gives_nobody_the_stored_answer(chain, victim, thief):
    challenge = victim.challenge()
    transaction = victim.send(challenge)
    assert victim.present(challenge, transaction).status_code == 200
    before = Untouched()
    for response in (
        thief.present(challenge, transaction),
        thief.present(thief.challenge(), transaction),
    ):
        assert (response.status_code, b"sunny" in response.content) == (402, False)
    before.verify()
    assert earned(chain) == 10_000


def test_t25_an_old_transfer_of_ones_own(chain, victim):
    """Money that once came for something else buys nothing now."""
    old = victim.send(victim.challenge())
    chain.advance_time(60)
    chain.mine(1)
    with clock.shifted(timedelta(seconds=60)):
        steals_nothing(victim.present(victim.challenge(), old), "transfer_before_challenge")


def test_t25_a_reused_log(chain, victim):
    """One transfer, presented for one thing after another, and for a second copy."""
    paths = ("/weather/", "/hidden/", "/weather/?again")
    challenges = {path: victim.challenge(path) for path in paths}
    transaction = victim.send(challenges["/weather/"])
    assert victim.present(challenges["/weather/"], transaction).status_code == 200
    before = Untouched()
    for path in paths[1:]:
        response = victim.present(challenges[path], transaction, path)
        assert (response.status_code, response.json()["error"]) == (402, "payment_already_used")
        response = victim.present(challenges["/weather/"], transaction, path)
        assert (response.status_code, response.json()["error"]) == (402, "payment_already_used")
    before.verify()
    assert earned(chain) == 10_000


def test_t25_a_settled_authorization_counts_once(chain, victim):
    """What the payer paid by an authorization is no transfer proof as well."""
    challenge = victim.challenge("/hidden/")
    assert PayingClient(payer=Payer(victim.account)).pay("GET", "/weather/").status_code == 200
    before = Untouched()
    response = victim.present(challenge, Payment.objects.get().transaction, "/hidden/")
    assert (response.status_code, response.json()["error"]) == (402, "transfer_not_found")
    before.verify()


def test_t25_another_chain(chain, victim, settings):
    """The same key has money on a worthless chain: real transfers there, shown here."""
    network = settings.X402["NETWORKS"][NETWORK]
    settings.X402 = {**settings.X402, "NETWORKS": {NETWORK: network, "eip155:31337": network}}
    worthless = dev_chain("eip155:31337")
    challenge = victim.challenge()
    worthless.mint(victim.address, 10**6)
    worthless.fund(victim.address, 10**18)
    w3 = Web3(worthless.provider())
    transaction = send_transfer(w3, victim.account, challenge)
    assert worthless.dollars(PAY_TO) == 10_000
    steals_nothing(victim.present(challenge, transaction, chainId=31337), "invalid_network")
    response = victim.present(challenge, transaction)
    assert (response.status_code, response.json()["error"]) == (402, "payment_pending")
    assert (runs.total(), Payment.objects.count(), earned(chain)) == (0, 0, 0)


def test_t25_another_token(chain, victim):
    challenge = victim.challenge()
    other = deploy_contract(direct(), "TestDollar", deployer=victim.account)
    mint = token_contract(direct(), other).encode_abi("mint", [victim.address, 10**6])
    send_transaction(direct(), victim.account, {"to": other, "data": mint})
    transaction = victim.send({**challenge, "asset": other})
    steals_nothing(victim.present(challenge, transaction), "transfer_not_found")
    assert (Payment.objects.count(), earned(chain)) == (0, 0)


def test_t25_too_little(chain, victim):
    """One unit too few, also in two parts that add up to more than enough."""
    challenge = victim.challenge()
    steals_nothing(
        victim.present(challenge, victim.send(challenge, amount=9_999)), "transfer_not_found"
    )
    parts = send_many(victim.account, [(PAY_TO, 9_999), (PAY_TO, 9_999)])
    steals_nothing(victim.present(challenge, parts), "transfer_not_found")
    assert not Payment.objects.exists()


def test_t25_too_little_while_it_is_pending(chain, victim):
    """What cannot be judged yet is judged before anything is delivered."""
    challenge = victim.challenge()
    chain.set_automine(False)
    transaction = submit(victim, transfer_data(direct(), challenge, amount=9_999))
    steals_nothing(victim.present(challenge, transaction), "payment_pending")
    chain.mine(1)
    assert confirm_pending_payments().failed == 1
    steals_nothing(victim.present(challenge, transaction), "transfer_not_found")
    assert Payment.objects.get().state == "failed"


def test_t25_a_reverted_transfer(chain, victim):
    challenge = victim.challenge()
    call = transfer_data(direct(), challenge, amount=10**12)  # more than there is
    receipt = send_transaction(direct(), victim.account, {**call, "gas": 100_000})
    assert receipt["status"] == 0
    transaction = "0x" + bytes(receipt["transactionHash"]).hex()
    steals_nothing(victim.present(challenge, transaction), "invalid_transaction_state")
    assert not Payment.objects.exists()


def test_t25_reorganised_away_before_it_was_deep_enough(chain, victim, settings):
    """The payer takes the transfer back while it waits: nothing was delivered for it."""
    settings.X402 = proof_settings(confirmations=3)
    challenge = victim.challenge()
    transaction = victim.send(challenge)
    steals_nothing(victim.present(challenge, transaction), "payment_pending")
    chain.reorg(1)
    chain.mine(5)
    for _ in range(3):
        confirm_pending_payments()
        steals_nothing(victim.present(challenge, transaction), "payment_pending")
    with clock.shifted(timedelta(seconds=130)):
        confirm_pending_payments()
        assert Payment.objects.get().state == "released"
    assert earned(chain) == 0


def test_t25_reorganised_away_after_it_was_deep_enough(chain, victim, caplog):
    """Deeper than the merchant chose to wait: it is noticed, said, and buys nothing more."""
    challenge = victim.challenge("/flaky/")
    transaction = victim.send(challenge)
    assert victim.present(challenge, transaction, "/flaky/").status_code == 500  # still owed
    chain.reorg(1)
    with caplog.at_level(logging.ERROR, logger="x402_django.payments"):
        assert confirm_pending_payments().reversed == 1
    assert "was reversed by a reorganisation" in caplog.text
    response = victim.present(challenge, transaction, "/flaky/")
    assert (response.status_code, response.json()["error"]) == (402, "payment_pending")
    assert (runs.total(), earned(chain)) == (1, 0)


def test_t25_a_hash_of_a_contract_wallet(chain, victim, thief):
    """Only who the wallet itself takes for its owner (EIP-1271) may use what it has paid."""
    mine, challenge = thief.challenge(), victim.challenge()
    wallet = deploy_smart_wallet(direct(), victim.address)
    chain.mint(wallet, 10**6)
    call = transfer_data(direct(), challenge)
    contract = direct().eth.contract(address=wallet, abi=load_artifact("SmartWallet").abi)
    data = contract.encode_abi("execute", [call["to"], 0, call["data"]])
    receipt = send_transaction(direct(), victim.account, {"to": wallet, "data": data})
    transaction = "0x" + bytes(receipt["transactionHash"]).hex()
    steals_nothing(thief.present(mine, transaction), "invalid_proof_signature")
    steals_nothing(thief.present(challenge, transaction), "invalid_proof_signature")
    assert victim.present(challenge, transaction).json()["payer"] == wallet


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 255])
def test_t25_malleable_signatures(chain, victim, thief, v):
    """The same signature with the other s, or an odd v, is not another proof."""
    challenge = victim.challenge()
    transaction = victim.send(challenge)
    proof = json.loads(sign_proof(victim.account, challenge, transaction)["X-402-Proof"])
    signature = bytes.fromhex(proof["signature"][2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high = (order - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    proof["signature"] = "0x" + (signature[:32] + high + bytes([v])).hex()
    response = victim.client.get("/weather/", headers={"X-402-Proof": json.dumps(proof)})
    steals_nothing(response, "invalid_proof_signature")


odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=40), st.lists(st.integers()),
    st.sampled_from(["0x", "0x" + "ab" * 32, "0x" + "00" * 65, "\0", "é", "9" * 400, {}, 1e400]),
)  # fmt: skip


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(
        st.sampled_from(["txHash", "chainId", "challengeId", "signature", "more"]), odd, max_size=5
    ),
    cut=st.integers(0, 900),
    raw=st.none() | st.text(max_size=60),
)
def test_t25_whatever_a_proof_holds(chain, victim, changes, cut, raw):
    """400 or 402; never a crash, never content, and no row."""
    challenge = _once(chain, victim)
    headers = sign_proof(victim.account, challenge, "0x" + "ab" * 32)
    proof = {**json.loads(headers["X-402-Proof"]), **changes}
    text = json.dumps(proof) if raw is None else raw
    value = text[: cut or None].encode("utf-8", "surrogateescape").decode("latin-1")
    response = Client(raise_request_exception=False).get("/weather/", HTTP_X_402_PROOF=value)
    assert response.status_code in (400, 402), response.content
    assert not runs
    assert not Payment.objects.exists()


_known: dict[int, dict[str, Any]] = {}


def _once(chain: Any, victim: Agent) -> dict[str, Any]:
    """One challenge for all rounds of one test."""
    if id(victim) not in _known:
        _known.clear()
        _known[id(victim)] = victim.challenge()
    return _known[id(victim)]
