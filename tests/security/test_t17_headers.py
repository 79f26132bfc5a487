"""T17: headers nobody honest sends. Never a 5xx, never content, never a row."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter

import pytest
from django.test import Client

from tests.security.conftest import Untouched
from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, decode, encode

pytestmark = pytest.mark.django_db

HEADERS = ("PAYMENT-SIGNATURE", "X-PAYMENT")


class Mutator:
    """Valid headers, spoiled in every way that comes to mind; the same for the same seed."""

    def __init__(self, valid: dict[str, dict], seed: int) -> None:
        self.valid = valid
        self.random = random.Random(seed)

    def header(self) -> tuple[str, str]:
        name = self.random.choice(HEADERS)
        source = self.valid[self.random.choice(HEADERS)]
        spoil = self.random.choice(
            (self.bytes, self.text, self.tree, self.tree, self.tree, self.encoding, self.nested)
        )
        return name, spoil(source)

    def bytes(self, source: dict) -> str:
        raw = bytearray(json.dumps(source).encode())
        for _ in range(self.random.randint(1, 6)):
            raw[self.random.randrange(len(raw))] = self.random.randrange(256)
        return base64.b64encode(bytes(raw)).decode()

    def text(self, source: dict) -> str:
        size = self.random.choice((0, 1, 3, 4, 50, 500, 9000))
        alphabet = self.random.choice(("AZaz09+/=", '{}[]",:0e-', "\x00\x7f\xe9\xff ,;=", "\t A"))
        return "".join(self.random.choice(alphabet) for _ in range(size))

    def encoding(self, source: dict) -> str:
        value = encode(source)
        cut = self.random.randrange(len(value))
        return self.random.choice(
            (
                value[:cut],
                value[cut:],
                value[:cut] + "=" + value[cut:],
                value + "," + value,
                value.swapcase(),
                " " + value,
                base64.b32encode(json.dumps(source).encode()).decode(),
                json.dumps(source),
                base64.b64encode(json.dumps(source).encode("utf-16")).decode(),
                base64.b64encode(value.encode()).decode(),
            )
        )

    def nested(self, source: dict) -> str:
        depth = self.random.choice((10, 25, 1000, 2500))
        opening, closing = self.random.choice((('{"a":', "}"), ("[", "]")))
        return base64.b64encode((opening * depth + "1" + closing * depth).encode()).decode()

    def tree(self, source: dict) -> str:
        document = json.loads(json.dumps(source))
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            node = document
            while True:
                key = self.random.choice(sorted(node))
                if isinstance(node[key], dict) and node[key] and self.random.random() < 0.75:
                    node = node[key]
                else:
                    break
            self.change(node, key)
            if not document:
                break
        return base64.b64encode(json.dumps(document).encode()).decode()

    def change(self, node: dict, key: str) -> None:
        action = self.random.randrange(4)
        if action == 0:
            del node[key]
        elif action == 1:
            node[key + self.random.choice(" \u200b\x00X_")] = node.pop(key)
        elif action == 2 and isinstance(node[key], str):
            text = node[key]
            at = self.random.randrange(len(text) + 1)
            junk = self.random.choice(("0", " ", "\u0660", "\ud800", "\x00", "-", "f" * 70, "."))
            node[key] = text[:at] + junk + text[at + self.random.randint(0, 1) :]
        else:
            node[key] = self.random.choice(
                (None, True, 0, -1, 1.5, 1e308, 10**77, 10**90, "", "0x", "0x0", "\ud800", [], {},
                 [[]], {"a": {}}, "٣", "1e5", "0" * 79, str(2**256), "eip155:1", "exact", 2, 1)
            )  # fmt: skip


def attack(client, payer, cases, seed):
    challenge = client.get("/weather/")
    valid = {
        name: decode(payer.headers_for(challenge, version=version)[name])
        for name, version in (("PAYMENT-SIGNATURE", 2), ("X-PAYMENT", 1))
    }
    mutator = Mutator(valid, seed)
    told: Counter[int] = Counter()
    for number in range(cases):
        name, value = mutator.header()
        response = client.get("/weather/", **{"HTTP_" + name.replace("-", "_"): value})
        code, content = response.status_code, response.content
        told[code] += 1
        note = f"seed {seed}, case {number}: {name}: {value[:300]!r} -> {code}"
        # 200: what was changed is not signed and not read, so it is one of the two payments.
        assert code in (200, 400, 402), note
        assert (b"sunny" in content) is (code == 200), note
        assert b"Traceback" not in content, note
        if code != 200:
            assert json.loads(content)["error"], note
    return valid, told


@pytest.mark.parametrize("seed", range(2))
def test_t17_a_thousand_malformed_headers(client, payer, seed, monkeypatch):
    check(client, payer, 1000, seed, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_t17_ten_thousand_malformed_headers(client, payer, seed, monkeypatch):
    check(client, payer, 10_000, seed, monkeypatch)


def check(client, payer, cases, seed, monkeypatch):
    """Only the two genuine payments may ever get a row, content or a receipt."""
    from x402_django.chain import evidence

    monkeypatch.setattr(evidence, "has_code", lambda network, address: False)
    valid, told = attack(client, payer, cases, seed)

    assert told[400] > cases // 3
    genuine = {document["payload"]["authorization"]["nonce"] for document in valid.values()}
    rows = Payment.objects.all()
    assert {row.nonce for row in rows} <= genuine
    assert {row.payload["signature"] for row in rows} <= {
        document["payload"]["signature"] for document in valid.values()
    }
    assert Receipt.objects.count() == runs["weather"] == rows.count()
    assert InstantFacilitator.calls["settle"] == rows.count()


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        "null",
        "bnVsbA==",
        "W10=",
        "e30=",
        "A" * 8192,
        "A" * 8193,
        "A" * 1_000_000,
        "\x00",
        "é",
        base64.b64encode(b'{"x402Version":2,"x402Version":2}').decode(),
        base64.b64encode(b'{"x402Version":NaN}').decode(),
        base64.b64encode(b'{"x402Version":' + b"9" * 5000 + b"}").decode(),
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode("\ufeff{}".encode()).decode(),
    ],
)
def test_t17_ambiguous_or_oversize_headers_are_refused(client, name, value):
    untouched = Untouched()
    response = client.get("/weather/", headers={name: value})
    assert response.status_code == 400
    assert response.json()["error"] in (
        "invalid_payload",
        "invalid_x402_version",
        "payment_header_too_large",
        "ambiguous_payment_headers",
    )
    untouched.verify()
    assert InstantFacilitator.calls == {}


@pytest.mark.parametrize("joiner", [",", ", ", " ,"])
def test_t17_a_duplicated_header_is_refused_even_if_both_are_the_same(payer, joiner):
    client = Client()
    (value,) = payer.headers_for(client.get("/weather/")).values()
    (other,) = Payer().headers_for(client.get("/weather/")).values()
    untouched = Untouched()
    for second in (value, other, ""):
        headers = {"PAYMENT-SIGNATURE": f"{value}{joiner}{second}"}
        response = client.get("/weather/", headers=headers)
        assert (response.status_code, response.json()["error"]) == (
            400,
            "ambiguous_payment_headers",
        )
    untouched.verify()
