"""Where the key comes from, and that it goes nowhere."""

from __future__ import annotations

import json

import pytest
from eth_account import Account

from x402_django.chain.wallets import check_source, settlement_account
from x402_django.exceptions import ConfigurationError

KEY = "0x" + "4b" * 32
ADDRESS = Account.from_key(KEY).address
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def keystore(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("keys") / "wallet.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=10)))
    return str(path)


def test_key_in_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY + "\n")
    check_source({"KEY_ENV": "SHOP_KEY"})
    assert settlement_account({"KEY_ENV": "SHOP_KEY"}).address == ADDRESS


def test_key_in_the_settings() -> None:
    assert settlement_account({"KEY": KEY[2:]}).address == ADDRESS


def test_keystore_with_its_password(monkeypatch, tmp_path, keystore) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    for password in (
        {"KEYSTORE_PASSWORD_ENV": "SHOP_PASSWORD"},
        {"KEYSTORE_PASSWORD_FILE": str(file)},
    ):
        check_source({"KEYSTORE": keystore, **password})
        assert settlement_account({"KEYSTORE": keystore, **password}).address == ADDRESS


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "exactly one of KEY_ENV, KEYSTORE and KEY; given: none"),
        ({"KEY": KEY, "KEY_ENV": "A"}, "given: KEY_ENV, KEY"),
        ({"KEY_ENV": "NO_SUCH_VARIABLE_HERE"}, "NO_SUCH_VARIABLE_HERE is not set"),
        ({"KEY": KEY[:-2]}, "The option KEY does not hold a private key"),
        ({"KEY": KEY[:-2] + "zz"}, "The option KEY does not hold a private key"),
        ({"KEY": "0x" + "0" * 64}, "The option KEY does not hold a private key"),
        ({"KEYSTORE": "/nonexistent/wallet.json"}, "cannot be read: No such file"),
        ({"KEYSTORE": __file__}, "is not a keystore file"),
    ],
)
def test_wrong_options_are_named_and_no_key_is_quoted(options, sentence) -> None:
    for function in (settlement_account, check_source):
        with pytest.raises(ConfigurationError, match=sentence) as error:
            function(options)
        assert "4b4b4b" not in str(error.value)
        assert error.value.__cause__ is None


def test_wrong_password(monkeypatch, keystore) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "wrong staple")
    options = {"KEYSTORE": keystore, "KEYSTORE_PASSWORD_ENV": "SHOP_PASSWORD"}
    check_source(options)
    with pytest.raises(ConfigurationError, match="wrong password") as error:
        settlement_account(options)
    assert "staple" not in str(error.value)


def test_a_keystore_needs_one_password(keystore) -> None:
    for more in ({}, {"KEYSTORE_PASSWORD_ENV": "A", "KEYSTORE_PASSWORD_FILE": "b"}):
        with pytest.raises(ConfigurationError, match="either KEYSTORE_PASSWORD_ENV or"):
            check_source({"KEYSTORE": keystore, **more})


def test_the_account_does_not_show_its_key() -> None:
    account = settlement_account({"KEY": KEY})
    assert "4b4b" not in repr(account) + str(account)
