"""Paying by a transfer of one's own, through HTTP, on an EVM."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError, connection
from django.test import AsyncClient, Client

from tests.chain.support import NETWORK, SETTLER, direct, node_down
from tests.http.proving import Agent, proof_settings, send_many
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock, tasks
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.models import Payment, PaymentEvent, PaymentMethod, PriceRule, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.pricing.cache import forget_rules
from x402_django.protocol.proofs import TransferChallenge
from x402_django.testing.chain import (
    deploy_contract,
    deploy_smart_wallet,
    dev_chain,
    reset_dev_chains,
    send_transaction,
    token_contract,
)
from x402_django.testing.payer import Payer, PayingClient, settlement_of
from x402_django.testing.transfers import read_challenge, sign_proof, transfer_data

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = 10_000


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = proof_settings()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def agent(chain) -> Agent:
    return Agent(chain)


def refused(response, code: str) -> None:
    """Answered 402 with ``code`` and a fresh challenge; nothing was written and nothing ran."""
    assert (response.status_code, response.json()["error"]) == (402, code)
    assert "PAYMENT-REQUIRED" in response
    assert response["Cache-Control"] == "no-store"
    assert not Payment.objects.exists()
    assert not runs


# ------------------------------------------------------------------- the challenge


def test_the_challenge_names_a_transfer(agent):
    response = agent.client.get("/weather/?city=2")
    challenge = read_challenge(response)
    now = clock.timestamp()
    uri = f"ethereum:{TOKEN_ADDRESS}@1337/transfer?address={PAY_TO}&uint256=10000"
    assert challenge == {
        "amount": "10000",
        "asset": TOKEN_ADDRESS,
        "payTo": PAY_TO,
        "chainId": 1337,
        "challengeId": challenge["challengeId"],
        "paymentUri": uri,
        "expires": challenge["expires"],
    }
    assert now + 3595 <= challenge["expires"] <= now + 3600
    page = f"https://shop.example/x402/pay/{challenge['challengeId']}/?for=%2Fweather%2F%3Fcity%3D2"
    assert response["Pay-URL"] == page
    assert response["Access-Control-Expose-Headers"].endswith(", X-402-Required, Pay-URL")
    assert response["Vary"] == "Accept, PAYMENT-SIGNATURE, X-PAYMENT, X-402-Proof, X-Payment-Proof"
    assert not Payment.objects.exists()


def test_without_the_setting_nothing_is_named(chain, settings):
    settings.X402 = proof_settings(TRANSFER_PROOFS=False)
    response = Client().get("/weather/")
    assert response.status_code == 402
    assert "X-402-Required" not in response
    assert "Pay-URL" not in response
    assert response["Vary"] == "Accept, PAYMENT-SIGNATURE, X-PAYMENT"
    assert response["Access-Control-Expose-Headers"] == (
        "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, X-402-Access, X-402-Remaining"
    )


def test_only_a_real_true_opens_the_method(chain, settings):
    settings.X402 = proof_settings(TRANSFER_PROOFS="yes")
    assert "X-402-Required" not in Client().get("/weather/")


def test_not_named_on_a_network_that_cannot_be_read(settings, db):
    unread = {NETWORK: {"ASSETS": [{"ADDRESS": TOKEN_ADDRESS, "NAME": "Test Dollar"}]}}
    settings.X402 = {**proof_settings(), "NETWORKS": unread}
    response = Client().get("/weather/")
    assert (response.status_code, "X-402-Required" in response) == (402, False)


def test_a_payment_method_has_its_own_switch(chain, settings):
    settings.X402 = proof_settings(TRANSFER_PROOFS=False)
    method = PaymentMethod.objects.create(
        name="TUSD", network=NETWORK, asset=TOKEN_ADDRESS, asset_symbol="TUSD",
        asset_name="Test Dollar", asset_version="1", pay_to=SETTLER.address,
    )  # fmt: skip
    assert "X-402-Required" not in Client().get("/weather/")
    method.transfer_proofs = True
    method.save()
    agent = Agent(chain)
    assert agent.challenge()["payTo"] == SETTLER.address
    assert agent.buy().status_code == 200
    assert Payment.objects.get().method == method


# ------------------------------------------------------------------- buying


def test_buying(chain, agent):
    before = chain.dollars(PAY_TO)
    response = agent.buy()

    assert response.status_code == 200
    assert response.json() == {"weather": "sunny", "payer": agent.address, "run": 1}
    assert chain.dollars(PAY_TO) - before == PRICE
    payment = Payment.objects.get()
    assert (payment.scheme, payment.state, payment.flow) == ("transfer", "settled", "upfront")
    assert (payment.payer, payment.amount) == (agent.address, PRICE)
    assert payment.price_usd == Decimal("0.01")
    assert payment.delivered_at is not None
    receipt = Receipt.objects.get()
    assert (receipt.amount, receipt.payer, receipt.pay_to) == (PRICE, agent.address, PAY_TO)
    assert receipt.transaction == payment.transaction
    settlement = settlement_of(response)
    assert (settlement["success"], settlement["transaction"]) == (True, payment.transaction)
    assert (settlement["amount"], settlement["payer"]) == ("10000", agent.address)
    assert "private" in response["Cache-Control"]
    assert "X-402-Proof" in response["Vary"]
    states = PaymentEvent.objects.values_list("to_state", flat=True)
    assert list(states) == ["verified", "settling", "settled"]

    confirm_pending_payments()
    payment.refresh_from_db()
    assert payment.state == "final"


def test_what_stays_open_stays_open_to_who_paid_by_transfer(agent):
    PriceRule.objects.create(
        name="An hour", url_names=["shop:weather"], price_usd="0.01", session_access=3600
    )
    assert agent.buy().status_code == 200
    payment = Payment.objects.get()
    assert (payment.session_access, payment.rule_name) == (3600, "An hour")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/async-weather/", b"windy"),
        ("/photo/", b"photo"),
        ("/asking/", b"answered"),
        ("/hidden/", b"hidden"),
        ("/stream/", b"one two three"),
        ("/weather/?city=%C3%A9", b"sunny"),
    ],
)
def test_every_kind_of_view(agent, path, content):
    response = agent.buy(path)
    body = b"".join(response.streaming_content) if response.streaming else response.content
    assert (response.status_code, content in body) == (200, True)
    assert Payment.objects.get().state == "settled"


def test_a_body_is_part_of_what_is_bought(agent):
    challenge = read_challenge(agent.client.post("/order/", "tea", content_type="text/plain"))
    assert challenge["amount"] == "50000"
    transaction = agent.send(challenge)
    headers = sign_proof(agent.account, challenge, transaction)
    other = agent.client.post("/order/", "gold", content_type="text/plain", headers=headers)
    refused(other, "challenge_for_another_request")
    response = agent.client.post("/order/", "tea", content_type="text/plain", headers=headers)
    assert (response.status_code, response.json()["ordered"]) == (201, "tea")


async def test_over_asgi(agent):
    client = AsyncClient()
    challenge = read_challenge(await client.get("/async-weather/"))
    headers = sign_proof(agent.account, challenge, agent.send(challenge), header="X-Payment-Proof")
    response = await client.get("/async-weather/", headers=headers)
    assert (response.status_code, runs["async_weather"]) == (200, 1)


def test_the_same_proof_gets_the_stored_answer(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    first = agent.present(challenge, transaction)
    again = agent.present(challenge, transaction.upper().replace("0X", "0x"))
    assert (again.status_code, again.content) == (200, first.content)
    assert (runs["weather"], Payment.objects.count(), Receipt.objects.count()) == (1, 1, 1)


def test_a_view_that_fails_is_owed(agent):
    challenge = agent.challenge("/flaky/")
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction, "/flaky/").status_code == 500
    payment = Payment.objects.get()
    assert (payment.state, payment.delivered_at) == ("settled", None)
    response = agent.present(challenge, transaction, "/flaky/")
    assert (response.status_code, response.json()) == (200, {"run": 2})
    assert Receipt.objects.count() == 1


def test_more_than_was_asked_is_taken_and_receipted(chain, agent):
    response = agent.buy(amount=25_000)
    assert response.status_code == 200
    payment = Payment.objects.get()
    assert (payment.amount, payment.requirements["amount"]) == (25_000, "10000")
    assert Receipt.objects.get().amount == 25_000 == chain.dollars(PAY_TO)
    assert settlement_of(response)["amount"] == "25000"


def test_the_price_of_the_challenge_holds(chain, settings):
    rule = PriceRule.objects.create(name="r", key="report", price_usd="0.02")
    agent = Agent(chain)
    challenge = agent.challenge("/report/")
    transaction = agent.send(challenge)
    rule.price_usd = 5
    rule.save()
    assert agent.challenge("/report/")["amount"] == "5000000"
    assert agent.present(challenge, transaction, "/report/").status_code == 200
    assert Receipt.objects.get().price_usd == Decimal("0.02")


def test_a_method_switched_off_still_honours_what_it_challenged(agent, settings):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    settings.X402 = proof_settings(TRANSFER_PROOFS=False)
    assert agent.present(challenge, transaction).status_code == 200


def test_switched_off_a_bad_proof_is_as_none(agent, settings):
    settings.X402 = proof_settings(TRANSFER_PROOFS=False)
    plain = agent.client.get("/weather/")
    odd = agent.client.get("/weather/", headers={"X-402-Proof": "{"})
    assert (odd.status_code, odd.content) == (402, plain.content)
    buyer = PayingClient(payer=Payer(agent.account))
    both = buyer.pay("GET", "/weather/", headers={"X-402-Proof": "{"})
    assert both.status_code == 200


def test_a_signed_payment_beside_it_still_works(agent):
    assert PayingClient(payer=Payer(agent.account)).pay("GET", "/weather/").status_code == 200
    assert Payment.objects.get().scheme == "exact"


# ------------------------------------------------------------------- what is refused


def test_another_token(chain, agent):
    challenge = agent.challenge()
    other = deploy_contract(direct(), "TestDollar", deployer=agent.account)
    data = token_contract(direct(), other).encode_abi("mint", [agent.address, 10**6])
    send_transaction(direct(), agent.account, {"to": other, "data": data})
    transaction = agent.send({**challenge, "asset": other})
    refused(agent.present(challenge, transaction), "transfer_not_found")


def test_another_payee(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge, to=SETTLER.address)
    refused(agent.present(challenge, transaction), "transfer_not_found")


def test_too_little(agent):
    challenge = agent.challenge()
    refused(agent.present(challenge, agent.send(challenge, amount=9_999)), "transfer_not_found")


def test_two_halves_are_no_payment(agent):
    challenge = agent.challenge()
    transaction = send_many(agent.account, [(PAY_TO, 5_000), (PAY_TO, 5_000)])
    refused(agent.present(challenge, transaction), "transfer_not_found")


def test_another_chain(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    refused(agent.present(challenge, transaction, chainId=1), "invalid_network")


def test_a_reverted_transaction(agent):
    challenge = agent.challenge()
    data = transfer_data(direct(), challenge, amount=10**12)  # more than it has
    receipt = send_transaction(direct(), agent.account, {**data, "gas": 100_000})
    assert receipt["status"] == 0
    transaction = "0x" + bytes(receipt["transactionHash"]).hex()
    refused(agent.present(challenge, transaction), "invalid_transaction_state")


def test_a_transfer_older_than_the_challenge(chain, agent):
    transaction = agent.send(agent.challenge())
    with clock.shifted(timedelta(seconds=30)):
        challenge = agent.challenge()
        refused(agent.present(challenge, transaction), "transfer_before_challenge")


def test_a_transfer_after_the_challenge(chain, agent):
    challenge = agent.challenge()
    chain.advance_time(3700)
    transaction = agent.send(challenge)
    refused(agent.present(challenge, transaction), "challenge_expired")


def test_a_proof_that_comes_late(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    with clock.shifted(timedelta(hours=26)):
        refused(agent.present(challenge, transaction), "challenge_expired")
    with clock.shifted(timedelta(hours=24)):
        assert agent.present(challenge, transaction).status_code == 200


def test_a_challenge_for_another_request(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    for path in ("/hidden/", "/weather/?city=2"):
        refused(agent.present(challenge, transaction, path), "challenge_for_another_request")
    headers = sign_proof(agent.account, challenge, transaction)
    assert agent.client.head("/weather/", headers=headers).status_code == 402
    assert agent.present(challenge, transaction).status_code == 200  # nothing was lost


def test_a_tampered_challenge(agent, settings):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    genuine = challenge["challengeId"]
    body, _, signature = genuine.partition(":")
    cheap = TransferChallenge.from_id(genuine)
    settings.SECRET_KEY = "another site's"
    forged = cheap.to_id()
    settings.SECRET_KEY = "not secret: used by the test suite only"
    for wrong in (body, f"{body}:{signature[:-2]}xx", f"{body}x:{signature}", forged, "x"):
        changed = {**challenge, "challengeId": wrong}
        refused(agent.present(changed, transaction), "invalid_challenge")


def test_a_challenge_under_the_previous_key_is_honoured(agent, settings):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the new key"
    assert agent.present(challenge, transaction).status_code == 200


def test_a_signature_for_another_transaction(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    foreign = json.loads(sign_proof(agent.account, challenge, "0x" + "11" * 32)["X-402-Proof"])
    response = agent.present(challenge, transaction, signature=foreign["signature"])
    refused(response, "invalid_proof_signature")


def test_a_transfer_by_authorization_counts_as_that_alone(chain, agent):
    challenge = agent.challenge("/hidden/")
    buyer = PayingClient(payer=Payer(agent.account))
    assert buyer.pay("GET", "/weather/").status_code == 200
    settled = Payment.objects.get()
    response = agent.present(challenge, settled.transaction, "/hidden/")
    assert (response.status_code, response.json()["error"]) == (402, "transfer_not_found")
    assert (Payment.objects.count(), runs["hidden"]) == (1, 0)


def test_unsigned_is_refused(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    refused(agent.present(challenge, transaction, signature=None), "proof_not_signed")


def test_unsigned_where_the_site_allows_it(agent, settings):
    settings.X402 = proof_settings(ALLOW_UNSIGNED_PROOFS=True)
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    response = agent.present(challenge, transaction, signature=None)
    assert (response.status_code, response.json()["payer"]) == (200, agent.address)
    assert agent.present(challenge, transaction, signature=None).status_code == 200
    assert (runs["weather"], Receipt.objects.count()) == (1, 1)


# ------------------------------------------------------------------- used once


def test_a_used_transfer_on_another_request(agent):
    challenge, other = agent.challenge(), agent.challenge("/hidden/")
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).status_code == 200
    for response in (
        agent.present(other, transaction, "/hidden/"),
        agent.present(challenge, transaction, "/hidden/"),
    ):
        assert (response.status_code, response.json()["error"]) == (402, "payment_already_used")
    assert (runs["hidden"], Payment.objects.count()) == (0, 1)


def test_a_used_transfer_for_a_second_copy(agent):
    challenge, second = agent.challenge(), agent.challenge("/weather/?again")
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).status_code == 200
    with clock.shifted(timedelta(seconds=1)):
        third = agent.challenge()
    for again, path in ((second, "/weather/?again"), (third, "/weather/")):
        response = agent.present(again, transaction, path)
        assert (response.status_code, response.json()["error"]) == (402, "payment_already_used")
    assert (runs["weather"], Receipt.objects.count()) == (1, 1)


def test_two_transfers_in_one_transaction_buy_two_things(chain, agent):
    weather, hidden, late = (
        agent.challenge(path) for path in ("/weather/", "/hidden/", "/weather/?third")
    )
    transaction = send_many(agent.account, [(PAY_TO, 30_000), (PAY_TO, 10_000), (PAY_TO, 5)])
    assert agent.present(weather, transaction).status_code == 200
    assert agent.present(hidden, transaction, "/hidden/").status_code == 200
    assert agent.present(late, transaction, "/weather/?third").status_code == 402
    amounts = list(Payment.objects.order_by("pk").values_list("amount", flat=True))
    assert amounts == [10_000, 30_000]  # the one that exceeds the price least goes first


@pytest.mark.parametrize("logs", [1, 2])
def test_at_once_each_transfer_buys_one_thing(chain, agent, logs):
    challenges = [(agent.challenge(p), p) for p in (f"/weather/?n={n}" for n in range(6))]
    transaction = send_many(agent.account, [(PAY_TO, PRICE)] * logs)
    barrier, answers = threading.Barrier(len(challenges)), []

    def present(challenge, path):
        headers = sign_proof(agent.account, challenge, transaction)
        barrier.wait()
        answers.append(Client().get(path, headers=headers).status_code)
        connection.close()

    threads = [threading.Thread(target=present, args=pair) for pair in challenges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * logs + [402] * (6 - logs)
    assert (runs["weather"], Payment.objects.count(), Receipt.objects.count()) == (logs,) * 3


def test_the_same_proof_at_once_runs_the_view_once(chain, agent):
    challenge = agent.challenge("/slow/")
    transaction = agent.send(challenge)
    headers = sign_proof(agent.account, challenge, transaction)
    barrier, answers = threading.Barrier(6), []

    def present():
        barrier.wait()
        answers.append(Client().get("/slow/", headers=headers).status_code)
        connection.close()

    threads = [threading.Thread(target=present) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 409, 402}
    assert answers.count(200) >= 1
    assert (runs["slow"], Payment.objects.count(), Receipt.objects.count()) == (1, 1, 1)
    assert Client().get("/slow/", headers=headers).content == b"slow run 1"


# ------------------------------------------------------------------- contract wallets


def wallet_pays(chain, agent, challenge) -> tuple[str, str]:
    """The agent's own contract wallet sends the transfer; wallet and hash."""
    w3 = direct()
    wallet = deploy_smart_wallet(w3, agent.address)
    chain.mint(wallet, 10**6)
    call = transfer_data(w3, challenge)
    contract = w3.eth.contract(address=wallet, abi=load_artifact("SmartWallet").abi)
    data = contract.encode_abi("execute", [call["to"], 0, call["data"]])
    receipt = send_transaction(w3, agent.account, {"to": wallet, "data": data})
    return wallet, "0x" + bytes(receipt["transactionHash"]).hex()


def test_a_contract_wallet(chain, agent):
    challenge = agent.challenge()
    wallet, transaction = wallet_pays(chain, agent, challenge)
    response = agent.present(challenge, transaction)
    assert (response.status_code, response.json()["payer"]) == (200, wallet)
    assert Receipt.objects.get().payer == wallet


def test_a_contract_wallet_of_somebody_else(chain, agent):
    challenge = agent.challenge()
    _, transaction = wallet_pays(chain, agent, challenge)
    thief = Agent(chain)
    refused(thief.present(thief.challenge(), transaction), "invalid_proof_signature")


# ------------------------------------------------------------------- pending


def test_pending_then_mined(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=3)
    challenge = agent.challenge()
    chain.set_automine(False)
    raw = agent.account.sign_transaction(
        {
            **transfer_data(direct(), challenge),
            "nonce": 0, "gas": 100_000, "chainId": 1337,
            "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9,
        }
    )  # fmt: skip
    transaction = "0x" + bytes(direct().eth.send_raw_transaction(raw.raw_transaction)).hex()

    response = agent.present(challenge, transaction)  # not mined
    assert response.status_code == 402
    payment = Payment.objects.get()
    assert response.json() == {
        "error": "payment_pending",
        "message": "The transfer is not confirmed yet. Do not pay again; repeat this request, "
        "with the same proof, in a moment.",
        "retryable": True,
        "status": response.json()["status"],
    }
    assert payment.public_id in response.json()["status"]
    assert response["Retry-After"] == "2"
    assert response["Link"] == f'<{response.json()["status"]}>; rel="status"'
    assert "PAYMENT-REQUIRED" not in response
    assert "X-402-Required" not in response
    seen = agent.client.get(response.json()["status"], headers={"Accept": "application/json"})
    assert (seen.json()["state"], seen.json()["retry"]) == ("settling", "wait")

    chain.mine(1)
    again = agent.present(challenge, transaction)  # mined, one block of three
    assert (again.status_code, again.json()["error"]) == (402, "payment_pending")
    payment.refresh_from_db()
    assert (payment.state, payment.log_index) == ("settling", 0)
    assert not runs

    chain.mine(2)
    assert tasks.confirm_pending_payments.apply().successful()
    payment.refresh_from_db()
    assert payment.state == "final"
    with node_down():  # the ledger knows by now: no look at the chain is needed
        bought = agent.present(challenge, transaction)
    assert (bought.status_code, runs["weather"]) == (200, 1)
    assert (Payment.objects.count(), Receipt.objects.count()) == (1, 1)


def test_pending_resolves_without_a_task(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=3)
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).json()["error"] == "payment_pending"
    chain.mine(2)
    assert agent.present(challenge, transaction).status_code == 200


def test_an_unknown_transaction_leaves_no_row(agent):
    challenge = agent.challenge()
    response = agent.present(challenge, "0x" + "ab" * 32)
    assert (response.status_code, response.json()["error"]) == (402, "payment_pending")
    assert "status" not in response.json()
    assert response["Retry-After"] == "2"
    assert not Payment.objects.exists()


def test_a_pending_transfer_holds_its_log(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=3)
    first, second = agent.challenge(), agent.challenge("/hidden/")
    transaction = agent.send(first)
    assert agent.present(first, transaction).json()["error"] == "payment_pending"
    chain.mine(3)
    response = agent.present(second, transaction, "/hidden/")
    assert (response.status_code, response.json()["error"]) == (402, "payment_already_used")
    assert agent.present(first, transaction).status_code == 200


# ------------------------------------------------------------------- trouble


@pytest.mark.parametrize("method", ["*", "eth_getBlockByHash", "eth_blockNumber"])
def test_a_node_that_is_down(agent, method):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    with node_down(method):
        response = agent.present(challenge, transaction)
    assert response.status_code == 503
    assert response["Retry-After"] == "2"
    assert response.json() == {
        "error": "payment_service_unavailable",
        "message": "The transfer cannot be looked at right now. Do not pay again; repeat this "
        "request, with the same proof, in a moment.",
        "retryable": True,
    }
    assert "secret" not in response.content.decode()
    assert not runs
    assert agent.present(challenge, transaction).status_code == 200


def test_a_network_gone_from_the_settings(agent, settings):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    other = proof_settings()
    other["NETWORKS"] = {"eip155:84532": {"RPC_URLS": ["http://127.0.0.1:9"]}}
    settings.X402 = other
    forget_rules()
    response = agent.present(challenge, transaction)
    assert (response.status_code, "Do not pay again" in response.json()["message"]) == (503, True)


def test_a_ledger_that_is_down(agent, monkeypatch):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    with monkeypatch.context() as patch:
        patch.setattr(Payment, "save", _broken)
        response = agent.present(challenge, transaction)
    assert (response.status_code, "Do not pay again" in response.json()["message"]) == (503, True)
    assert not runs
    assert agent.present(challenge, transaction).status_code == 200


def _broken(*args, **kwargs):
    raise OperationalError("the disk is full")


# ------------------------------------------------------------------- malformed


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "invalid_payload"),
        ("{", "invalid_payload"),
        ("[]", "invalid_payload"),
        ("null", "invalid_payload"),
        ("{}", "invalid_payload"),
        ("e30=", "invalid_payload"),
        ('{"a":1,"a":2}', "invalid_payload"),
        ("é", "invalid_payload"),
        ("{},{}", "ambiguous_payment_headers"),
        ('{"a":1}, {"a":1}', "ambiguous_payment_headers"),
        ('{"a":"' + "x" * 8192 + '"}', "payment_header_too_large"),
    ],
)
def test_malformed(agent, value, code):
    for name in ("X-402-Proof", "X-Payment-Proof"):
        response = agent.client.get("/weather/", headers={name: value})
        assert (response.status_code, response.json()["error"]) == (400, code)
    assert not runs


@pytest.mark.parametrize(
    "changes",
    [
        {"txHash": None},
        {"txHash": "0x12"},
        {"txHash": 1},
        {"chainId": None},
        {"chainId": "1337"},
        {"chainId": True},
        {"chainId": 1337.0},
        {"chainId": -1},
        {"challengeId": None},
        {"challengeId": ""},
        {"challengeId": "with space"},
        {"challengeId": "x" * 2049},
        {"challengeId": ["x"]},
        {"signature": ""},
        {"signature": "0x"},
        {"signature": "0x1"},
        {"signature": 1},
        {"signature": "0x" + "00" * 4097},
    ],
)
def test_malformed_fields(agent, changes):
    challenge = agent.challenge()
    response = agent.present(challenge, "0x" + "ab" * 32, **changes)
    assert (response.status_code, runs.total()) == (400, 0)


def test_two_proofs_or_a_proof_beside_a_payment(agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    one = sign_proof(agent.account, challenge, transaction)
    two = sign_proof(agent.account, challenge, transaction, header="X-Payment-Proof")
    paid = Payer(agent.account).headers_for(agent.client.get("/weather/"))
    for headers in ({**one, **two}, {**one, **paid}, {**one, "X-PAYMENT": "e30="}):
        response = agent.client.get("/weather/", headers=headers)
        assert (response.status_code, response.json()["error"]) == (
            400,
            "ambiguous_payment_headers",
        )
    assert not Payment.objects.exists()
    assert agent.client.get("/weather/", headers=two).status_code == 200
