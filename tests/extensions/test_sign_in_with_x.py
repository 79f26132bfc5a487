"""The extension sign-in-with-x: a wallet that has paid comes back; nobody else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.test import Client, override_settings
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from x402.extensions.sign_in_with_x.schema import build_siwx_schema
from x402.extensions.sign_in_with_x.types import SIWxExtension

from tests.chain.support import NETWORK, x402_settings
from tests.payments.support import ago, snapshot, stored
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import Payment, SpentNonce
from x402_django.payments.housekeeping import tidy_up
from x402_django.testing.chain import deploy_smart_wallet, dev_chain, reset_dev_chains
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient, decode, encode
from x402_django.testing.sign_in import sign_in_headers

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.extensions.views")]

VAULT = "/vault/"
ON = {"sign-in-with-x": {}}


@pytest.fixture(autouse=True)
def _on() -> Iterator[None]:
    with override_settings(X402={**django_settings.X402, "EXTENSIONS": ON}):
        yield


@pytest.fixture
def owner(payer: Payer) -> LocalAccount:
    """An account that has bought the vault."""
    buyer = PayingClient(payer=payer)
    assert buyer.get(VAULT).status_code == 200
    runs.clear()
    account: LocalAccount = payer.account
    return account


def declared(path: str = VAULT, **options: Any) -> dict[str, Any]:
    challenge = decode(Client().get(path, **options)["PAYMENT-REQUIRED"])
    extension: dict[str, Any] = challenge["extensions"]["sign-in-with-x"]
    return extension


def sign_in(account: LocalAccount, path: str = VAULT, **overrides: Any) -> dict[str, str]:
    """Headers for a challenge of ``path``, signed by ``account``."""
    return sign_in_headers(declared(path), account, **overrides)


def get(headers: dict[str, str], path: str = VAULT) -> Any:
    return Client(raise_request_exception=False).get(path, headers=headers)


def refused(response: Any, code: str = "payment_required") -> None:
    """A 402 with a fresh challenge; the view did not run."""
    assert response.status_code == 402
    challenge = decode(response["PAYMENT-REQUIRED"])
    assert challenge["error"] == code
    assert "sign-in-with-x" in challenge["extensions"]
    assert not runs


# ----------------------------------------------------------------------------- the way in


def test_the_challenge_is_of_the_sdks_form() -> None:
    extension = declared(query_params={"page": "2"})
    assert extension["schema"] == build_siwx_schema()
    info = SIWxExtension.model_validate(extension).info
    assert (info.domain, info.uri) == ("shop.example", "https://shop.example/vault/")
    assert info.resources == ["https://shop.example/vault/"]
    assert extension["supportedChains"] == [{"chainId": "eip155:84532", "type": "eip191"}]
    assert declared()["info"]["nonce"] != info.nonce
    assert not SpentNonce.objects.exists()  # a challenge costs the site nothing


def test_nothing_is_declared_where_nothing_can_be_come_back_to() -> None:
    for response in (Client().get("/plain/"), Client().post(VAULT)):
        assert "sign-in-with-x" not in decode(response["PAYMENT-REQUIRED"])["extensions"]


def test_who_has_paid_comes_back_by_signing_in(owner: LocalAccount) -> None:
    before = snapshot()
    for number in (1, 2):
        again = get(sign_in(owner))
        assert (again.status_code, again.json()) == (200, {"secret": 42, "by": owner.address})
        assert "private" in again["Cache-Control"]
        assert "SIGN-IN-WITH-X" in again["Vary"]
        assert runs["vault"] == number
    assert snapshot() == before
    assert len(InstantFacilitator.settled) == 1


@pytest.mark.parametrize("path", ["/asking-vault/", "/api-vault/"])
def test_a_view_that_asks_from_inside(payer: Payer, path: str) -> None:
    first = PayingClient(payer=payer).get(path)
    assert first.status_code == 200
    again = get(sign_in(payer.account, path), path)
    assert (again.status_code, again.content) == (200, first.content)
    assert Payment.objects.count() == 1


def test_access_ends_when_the_rule_says_so(owner: LocalAccount) -> None:
    Payment.objects.update(settled_at=ago(3601))
    refused(get(sign_in(owner)))
    PayingClient(payer=Payer(owner)).get(VAULT)  # bought again
    runs.clear()
    assert get(sign_in(owner)).status_code == 200


@pytest.mark.parametrize("state", ["reversed", "refunded", "failed", "settling"])
def test_only_money_that_has_arrived_opens(owner: LocalAccount, state: str) -> None:
    Payment.objects.update(state=state)
    refused(get(sign_in(owner)))


def test_what_is_owed_is_delivered_by_signing_in(owner: LocalAccount) -> None:
    Payment.objects.update(
        delivered_at=None, response_body=None, response_status=None, response_expires_at=None
    )
    assert get(sign_in(owner)).status_code == 200
    assert Payment.objects.get().delivered_at is not None


# ------------------------------------------------------------------------------- attackers


def test_t03_a_sign_in_is_good_once(owner: LocalAccount) -> None:
    headers = sign_in(owner)
    assert get(headers).status_code == 200
    runs.clear()
    refused(get(headers), "invalid_siwx_nonce")
    re_encoded = {"SIGN-IN-WITH-X": encode(decode(headers["SIGN-IN-WITH-X"]))}
    refused(get(re_encoded), "invalid_siwx_nonce")


def test_a_sign_in_from_before_the_purchase_opens_nothing_afterwards(payer: Payer) -> None:
    headers = sign_in(payer.account)
    refused(get(headers))
    assert PayingClient(payer=payer).get(VAULT).status_code == 200
    runs.clear()
    refused(get(headers), "invalid_siwx_nonce")


def test_another_wallet_has_no_access(owner: LocalAccount) -> None:
    refused(get(sign_in(Account.create())))


def test_a_forger_signs_for_the_owner(owner: LocalAccount, chain: Any) -> None:
    forged = sign_in(Account.create(), address=owner.address)
    refused(get(forged), "invalid_siwx_signature")
    headers = decode(sign_in(owner)["SIGN-IN-WITH-X"])
    for signature in ("0x" + "00" * 65, "0x01", "0x" + "ff" * 65):
        tampered = {"SIGN-IN-WITH-X": encode({**declared_again(headers), "signature": signature})}
        refused(get(tampered), "invalid_siwx_signature")


def declared_again(headers: dict[str, Any]) -> dict[str, Any]:
    """The same answer to a fresh challenge, unsigned."""
    return {**headers, **declared()["info"]}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"domain": "evil.example"}, "invalid_siwx_domain_mismatch"),
        ({"uri": "https://shop.example/"}, "invalid_siwx_uri_mismatch"),
        ({"uri": "https://evil.example/vault/"}, "invalid_siwx_uri_mismatch"),
        ({"nonce": "0" * 64}, "invalid_siwx_nonce"),
        ({"nonce": "short"}, "invalid_siwx_nonce"),
        ({"statement": "Transfer everything."}, "invalid_siwx_nonce"),
        ({"issuedAt": "2020-01-01T00:00:00Z"}, "invalid_siwx_nonce"),
        ({"expirationTime": "2999-01-01T00:00:00Z"}, "invalid_siwx_nonce"),
        ({"expirationTime": "never"}, "invalid_siwx_nonce"),
        ({"chainId": "eip155:1"}, "invalid_siwx_unsupported_chain"),
    ],
)
def test_what_answers_no_challenge_of_ours(
    owner: LocalAccount, changed: dict[str, Any], code: str
) -> None:
    """The owner's own signature over something else, as a phishing site would have it."""
    if "uri" in changed:
        changed = {**changed, "resources": [changed["uri"]]}
    refused(get(sign_in(owner, **changed)), code)
    assert not SpentNonce.objects.exists()


def test_t06_a_challenge_of_another_resource(owner: LocalAccount) -> None:
    """Both bought by the same wallet, so that only the binding is in the way."""
    PayingClient(payer=Payer(owner)).get("/other-vault/")
    runs.clear()
    headers = sign_in(owner, "/other-vault/")
    refused(get(headers), "invalid_siwx_uri_mismatch")
    assert get(headers, "/other-vault/").status_code == 200


def test_what_was_bought_is_one_request(owner: LocalAccount) -> None:
    refused(get(sign_in(owner), f"{VAULT}?page=2"))
    refused(get(sign_in(owner, "/other-vault/"), "/other-vault/"))
    posted = Client().post(VAULT, headers=sign_in(owner))
    assert (posted.status_code, dict(runs)) == (402, {})


def test_a_challenge_of_another_site_with_another_key(owner: LocalAccount) -> None:
    with override_settings(SECRET_KEY="another site's"):
        headers = sign_in(owner)
    refused(get(headers), "invalid_siwx_nonce")
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[django_settings.SECRET_KEY]):
        assert get(sign_in(owner)).status_code == 200


def test_a_sign_in_expires(owner: LocalAccount) -> None:
    headers = sign_in(owner)
    with clock.shifted(timedelta(seconds=301)):
        refused(get(headers), "invalid_siwx_expired")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "not base64!",
        encode({}),
        encode({"signature": "0x01"}),
        "A" * 9000,
    ],
)
def test_what_is_no_sign_in_at_all(owner: LocalAccount, value: str) -> None:
    response = get({"SIGN-IN-WITH-X": value})
    assert response.status_code == 400
    assert response.json()["error"] in ("invalid_payload", "payment_header_too_large")
    assert not runs


@pytest.mark.parametrize(
    "changed",
    [
        {"address": "0x1234"},
        {"address": 7},
        {"chainId": "solana:mainnet"},
        {"type": "ed25519"},
        {"version": "2"},
        {"resources": ["https://shop.example/vault/", "https://evil.example/"]},
        {"resources": None},
        {"notBefore": "2020-01-01T00:00:00Z"},
        {"statement": None},
        {"nonce": ["a"]},
    ],
)
def test_an_answer_of_another_form(owner: LocalAccount, changed: dict[str, Any]) -> None:
    payload = {**decode(sign_in(owner)["SIGN-IN-WITH-X"]), **changed}
    response = get({"SIGN-IN-WITH-X": encode(payload)})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_payload")
    assert not SpentNonce.objects.exists()


def test_it_is_off_unless_the_site_says_so(owner: LocalAccount) -> None:
    headers = sign_in(owner)
    with override_settings(X402={**django_settings.X402, "EXTENSIONS": {}}):
        response = get(headers)
    assert response.status_code == 402
    assert "sign-in-with-x" not in decode(response["PAYMENT-REQUIRED"])["extensions"]


def test_spent_nonces_are_forgotten_when_they_have_expired(owner: LocalAccount) -> None:
    get(sign_in(owner))
    tidy_up()
    assert SpentNonce.objects.count() == 1
    with clock.shifted(timedelta(seconds=301)):
        tidy_up()
    assert not SpentNonce.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_t04_one_sign_in_eight_times_at_once_opens_once(owner: LocalAccount) -> None:
    headers, barrier = sign_in(owner), Barrier(8)

    def enter(_: int) -> int:
        barrier.wait()
        try:
            return int(get(headers).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(enter, range(8))) == [200] + [402] * 7
    assert runs["vault"] == 1


# ------------------------------------------------------------------------ contract wallets


@pytest.fixture(scope="module")
def one_chain() -> Iterator[Any]:
    reset_dev_chains()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def chain(one_chain: Any, settings: Any) -> Any:
    other = {"eip155:8453": {"RPC_URLS": ["http://127.0.0.1:9"]}}
    base = x402_settings()
    settings.X402 = {
        **base,
        "NETWORKS": {**base["NETWORKS"], **other},
        "EXTENSIONS": ON,
    }
    return one_chain


def test_a_contract_wallet_comes_back(chain: Any, owner_of_wallet: Any) -> None:
    account, wallet = owner_of_wallet
    again = get(sign_in(account, address=wallet))
    assert (again.status_code, again.json()["by"]) == (200, wallet)
    runs.clear()
    # Somebody else's key, and the owner's key for itself.
    refused(get(sign_in(Account.create(), address=wallet)), "invalid_siwx_signature")
    refused(get(sign_in(account)))


def test_t13_a_contract_answers_on_its_own_network_alone(chain: Any, owner_of_wallet: Any) -> None:
    """On another network anybody may have put another contract at the payer's address."""
    account, wallet = owner_of_wallet
    Payment.objects.filter(payer=wallet).update(network="eip155:8453")
    refused(get(sign_in(account, address=wallet)), "invalid_siwx_signature")


def test_a_contract_that_cannot_be_asked_lets_nobody_in(chain: Any, owner_of_wallet: Any) -> None:
    account, wallet = owner_of_wallet
    Payment.objects.filter(payer=wallet).update(network="eip155:8453")
    response = get(sign_in(account, address=wallet, chainId="eip155:8453"))
    assert response.status_code == 503
    assert json.loads(response.content)["error"] == "payment_service_unavailable"
    assert not runs


@pytest.fixture
def owner_of_wallet(chain: Any, settings: Any) -> tuple[LocalAccount, str]:
    """A contract wallet that has bought the vault, and its owner."""
    account: LocalAccount = Account.create()
    wallet = deploy_smart_wallet(Web3(chain.provider()), account.address)
    fingerprint = _fingerprint_of_vault()
    stored(
        "settled",
        payer=wallet,
        network=NETWORK,
        request_fingerprint=fingerprint,
        session_access=3600,
        delivered_at=ago(1),
    )
    return account, wallet


def _fingerprint_of_vault() -> str:
    """As the ledger has it of a purchase."""
    from django.test import RequestFactory

    from x402_django.http.resource import request_facts

    return request_facts(RequestFactory().get(VAULT)).fingerprint
