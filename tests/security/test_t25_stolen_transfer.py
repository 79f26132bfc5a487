"""T25: somebody else's transaction hash presented as one's own.

Hashes of transfers to the shop are public the moment they are sent.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chain.support import NETWORK
from tests.http.proving import Agent, proof_settings
from tests.security.conftest import Untouched, earned
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import Payment, Receipt
from x402_django.testing.chain import dev_chain, reset_dev_chains
from x402_django.testing.transfers import sign_proof

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
