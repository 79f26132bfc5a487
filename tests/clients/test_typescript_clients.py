"""The official TypeScript clients, unmodified, buy from a live server.

``@x402/fetch`` speaks x402 v2 and ``x402-fetch`` v1.
Their versions are pinned in ``node/package-lock.json``. They are installed once per run of the
suite, outside the repository; set ``X402_NODE_CLIENTS`` to a directory to keep the installation.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.live import PAY_TO, Site, assert_bought_once, decode_header, live_site
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS

pytestmark = pytest.mark.node


def buy(
    clients: Path, site: Site, account: Any, version: int, path: str, *request: str
) -> dict[str, Any]:
    """Let the client of ``version`` request ``path``; what it was answered."""
    return run(clients, account, f"pay_v{version}.mjs", site.url + path, *request)


def run(clients: Path, account: Any, script: str, *arguments: str) -> dict[str, Any]:
    """What a script with the key of ``account`` reports."""
    done = subprocess.run(
        ["node", script, *arguments],
        cwd=clients,
        env={**os.environ, "PAYER_KEY": "0x" + bytes(account.key).hex(), "TOKEN": TOKEN_ADDRESS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("path", "amount", "request_"),
    [
        ("/counted/", 10_000, ("GET",)),
        ("/counted-async/", 20_000, ("GET",)),
        ("/counted/", 10_000, ("POST", "an order")),
    ],
    ids=["get", "async", "post"],
)
@pytest.mark.parametrize(
    ("version", "header"), [(1, "x-payment-response"), (2, "payment-response")]
)
def test_buys(
    clients: Path,
    site: Site,
    version: int,
    header: str,
    path: str,
    amount: int,
    request_: tuple[str, ...],
) -> None:
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)

    answer = buy(clients, site, account, version, path, *request_)

    assert answer["status"] == 200, answer
    assert json.loads(answer["text"]) == {
        "path": path,
        "payer": account.address,
        "body": "".join(request_[1:]),
    }
    assert_bought_once(
        site,
        account.address,
        decode_header(answer["headers"][header]),
        path=path,
        amount=amount,
        version=version,
        earned_before=earned,
    )


def test_two_signatures_under_one_identifier_pay_once(clients: Path, site: Site) -> None:
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)
    name = "pay_7d5d747be160e280504c099d984bcfe0"

    answers = [
        run(clients, account, "pay_named.mjs", f"{site.url}/counted/", name) for _ in range(2)
    ]

    assert [answer["status"] for answer in answers] == [200, 200]
    assert answers[0]["text"] == answers[1]["text"]
    header = "payment-response"
    assert answers[0]["headers"][header] == answers[1]["headers"][header]
    assert site.runs(account.address) == ["/counted/"]
    assert len(site.transfers(account.address)) == 1
    assert site.chain.dollars(PAY_TO) == earned + 10_000


def test_a_wallet_that_has_paid_comes_back_by_signing_in(clients: Path, site: Site) -> None:
    """The official client's text is the one that is verified here, to the byte."""
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)

    answer = run(clients, account, "sign_in.mjs", f"{site.url}/kept/")

    assert answer["status"] == 200, answer
    assert json.loads(answer["text"])["payer"] == account.address
    assert "payment-response" not in answer["headers"]
    assert site.runs(account.address) == ["/kept/", "/kept/"]
    assert len(site.transfers(account.address)) == 1
    assert site.chain.dollars(PAY_TO) == earned + 10_000


@pytest.mark.parametrize("version", [1, 2])
def test_a_payer_without_funds_gets_no_content(clients: Path, site: Site, version: int) -> None:
    account, earned = site.new_payer(dollars=0), site.chain.dollars(PAY_TO)

    answer = buy(clients, site, account, version, "/counted/", "GET")

    assert answer["status"] == 402
    assert json.loads(answer["text"])["error"] == "insufficient_funds"
    assert site.runs(account.address) == []
    assert site.transfers(account.address) == []
    assert site.chain.dollars(PAY_TO) == earned


@pytest.mark.parametrize("signature_format", ["eip712", "jws"])
def test_signed_offers_and_receipts_are_verified(
    clients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature_format: str
) -> None:
    """By the official verifier, which fetches the key of a web signature from the site itself."""
    monkeypatch.setenv("SITE_SIGNATURE_FORMAT", signature_format)
    monkeypatch.setenv("SITE_BASE_URL", "http://127.0.0.1")  # until the server has its port
    with live_site(tmp_path, servers=0) as site:
        site.is_named = True
        url = site.start_server().url
        payer = site.new_payer()
        done = subprocess.run(
            ["node", "verify_offers.mjs", f"{url}/counted/"],
            cwd=clients,
            env={**os.environ, "PAYER_KEY": "0x" + bytes(payer.key).hex(), "TOKEN": TOKEN_ADDRESS},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        (key,) = httpx.get(f"{url}/x402/keys/").json()["keys"]
    assert (answer["status"], answer["isOffered"], answer["matches"]) == (200, True, True)
    offer, receipt = answer["offer"]["payload"], answer["receipt"]["payload"]
    assert (offer["resourceUrl"], offer["amount"], offer["payTo"]) == (
        f"{url}/counted/", "10000", PAY_TO,
    )  # fmt: skip
    assert (receipt["resourceUrl"], receipt["payer"]) == (f"{url}/counted/", payer.address)
    if signature_format == "eip712":
        assert answer["offer"]["signer"] == answer["receipt"]["signer"] == key["address"]
