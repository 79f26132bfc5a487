"""Tokens: the examples of the RFCs, and keys in every form in which services hand them out."""

from __future__ import annotations

import base64
import json

import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS, eddsa

from x402_django.exceptions import ConfigurationError
from x402_django.facilitators import tokens
from x402_django.facilitators.tokens import SigningKey


def b64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# RFC 8037, appendix A.
ED25519_SEED = b64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
ED25519_PUBLIC = b64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
ED25519_SECRET = base64.b64encode(ED25519_SEED + ED25519_PUBLIC).decode()
# RFC 6979, appendix A.2.5.
P256 = ECC.construct(
    curve="P-256", d=0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
)


def test_the_example_of_rfc_8037() -> None:
    key = SigningKey(ED25519_SECRET, "The key")
    message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    assert key.algorithm == "EdDSA"
    assert key.sign(message) == b64url(
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


def test_the_example_of_rfc_6979() -> None:
    key = SigningKey(P256.export_key(format="PEM"), "The key")
    assert key.algorithm == "ES256"
    assert key.sign(b"sample").hex() == (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    )


PKCS8 = ECC.construct(curve="Ed25519", seed=ED25519_SEED).export_key(format="DER", use_pkcs8=True)


@pytest.mark.parametrize(
    ("secret", "algorithm"),
    [
        (ED25519_SECRET, "EdDSA"),
        (base64.b64encode(PKCS8).decode(), "EdDSA"),
        (P256.export_key(format="PEM", use_pkcs8=False), "ES256"),
        (P256.export_key(format="PEM", use_pkcs8=True), "ES256"),
        (P256.export_key(format="PEM").replace("\n", "\\n"), "ES256"),
    ],
    ids=["seed and public key", "PKCS 8", "SEC 1", "PEM PKCS 8", "escaped lines"],
)
def test_forms_of_keys(secret, algorithm) -> None:
    key = SigningKey(secret, "The key")
    assert key.algorithm == algorithm
    header, claims, signature = tokens.encode({"kid": "k"}, {"sub": "ä"}, key).split(".")
    assert json.loads(b64url(header)) == {"alg": algorithm, "kid": "k"}
    assert json.loads(b64url(claims)) == {"sub": "ä"}
    message = f"{header}.{claims}".encode()
    if algorithm == "EdDSA":
        public = eddsa.import_public_key(ED25519_PUBLIC)
        eddsa.new(public, "rfc8032").verify(message, b64url(signature))
    else:
        verifier = DSS.new(P256.public_key(), "fips-186-3")
        verifier.verify(SHA256.new(message), b64url(signature))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "not a key",
        base64.b64encode(b"x" * 64).decode(),
        base64.b64encode(ED25519_SEED).decode(),
        ED25519_SECRET[:-4],
        base64.b64encode(ED25519_SEED + ED25519_PUBLIC[::-1]).decode(),
        P256.public_key().export_key(format="PEM"),
        P256.export_key(format="PEM")[:-60],
        ECC.generate(curve="P-384").export_key(format="PEM"),
    ],
    ids=["empty", "text", "noise", "seed", "cut", "mixed", "public", "cut PEM", "P-384"],
)
def test_what_is_no_key_is_not_quoted(secret) -> None:
    with pytest.raises(ConfigurationError, match="The variable is not a private key") as error:
        SigningKey(secret, "The variable")
    assert not secret or secret not in str(error.value)
    assert error.value.__cause__ is None


def test_a_key_is_in_no_representation() -> None:
    assert repr(SigningKey(ED25519_SECRET, "The key")) == "<SigningKey EdDSA>"
