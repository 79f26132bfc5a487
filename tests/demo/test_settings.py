"""The demo's settings are a function of the environment."""

from __future__ import annotations

import os
import runpy
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

SETTINGS = Path(__file__).parents[2] / "demo_project" / "settings.py"
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAYEE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The settings that an environment of just these variables makes."""
    for name in list(os.environ):
        if name.startswith("X402_") or name in ("DATABASE_URL", "CELERY_BROKER_URL", "DEBUG"):
            monkeypatch.delenv(name)
    # Set, so that whatever the settings set is undone too.
    monkeypatch.setenv("X402_SETTLER_KEY", "")
    monkeypatch.delenv("X402_SETTLER_KEY")

    def load(**environment: str) -> dict[str, Any]:
        monkeypatch.setenv("DEMO_VAR_DIR", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(SETTINGS))

    return load


def test_without_variables_it_is_the_development_chain(load: Any, tmp_path: Path) -> None:
    settings = load()
    assert settings["DEBUG"] is False
    assert settings["X402"]["PAY_TO"] == "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    network = settings["X402"]["NETWORKS"]["eip155:1337"]
    assert network["RPC_URLS"] == ["http://127.0.0.1:8545"]
    assert network["ASSETS"][0]["SYMBOL"] == "TUSD"
    assert settings["X402"]["FACILITATORS"]["default"] == {
        "BACKEND": "x402_django.facilitators.LocalFacilitator",
        "OPTIONS": {"KEY_ENV": "X402_SETTLER_KEY"},
    }
    database = settings["DATABASES"]["default"]
    assert database["NAME"] == str(tmp_path / "demo.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]
    assert settings["CELERY_BROKER_URL"].startswith("filesystem:")


def test_the_test_dollar_is_where_the_development_chain_has_it(load: Any) -> None:
    from x402_django.chain.devchain import deployment

    dollar = load()["TEST_DOLLAR"]
    assert dollar == {
        "ADDRESS": deployment.TOKEN_ADDRESS,
        "NAME": deployment.TOKEN_NAME,
        "SYMBOL": deployment.TOKEN_SYMBOL,
    }


def test_the_public_keys_are_those_of_the_development_chain(load: Any) -> None:
    from x402_django.chain.devchain.accounts import dev_accounts

    settings = load()
    assert os.environ["X402_SETTLER_KEY"] == dev_accounts()[0].private_key
    assert settings["TEST_PAYEE"] == dev_accounts()[1].address


def test_another_network_has_no_key_and_no_payee_of_ours(load: Any) -> None:
    settings = load(X402_NETWORK="eip155:84532", X402_RPC_URL="https://a.example,https://b.example")
    assert settings["X402"]["PAY_TO"] is None
    assert "X402_SETTLER_KEY" not in os.environ
    network = settings["X402"]["NETWORKS"]["eip155:84532"]
    assert network["RPC_URLS"] == ["https://a.example", "https://b.example"]
    assert network["ASSETS"] == []  # its usual dollar will do


@pytest.mark.parametrize(
    ("network", "file"),
    [
        ("eip155:1337", "demo.sqlite3"),
        ("eip155:31337", "demo.sqlite3"),
        ("eip155:84532", "shop.sqlite3"),
    ],
)
def test_only_ledgers_of_development_chains_are_where_the_demo_begins_anew(
    load: Any, tmp_path: Path, network: str, file: str
) -> None:
    settings = load(X402_NETWORK=network)
    assert settings["DATABASES"]["default"]["NAME"] == str(tmp_path / file)


def test_a_token_needs_its_domain(load: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="X402_ASSET needs X402_ASSET_NAME"):
        load(X402_NETWORK="eip155:84532", X402_ASSET=TOKEN)


def test_everything_from_the_environment(load: Any) -> None:
    settings = load(
        X402_NETWORK="eip155:84532",
        X402_ASSET=TOKEN,
        X402_ASSET_NAME="USDC",
        X402_ASSET_VERSION="2",
        X402_ASSET_DECIMALS="18",
        X402_PAY_TO=PAYEE,
        X402_FACILITATOR_URL="https://facilitator.example",
        X402_CONFIRMATIONS="3",
        DATABASE_URL="postgres://shop:secret@db.example:5433/shop",
        CELERY_BROKER_URL="redis://broker.example/0",
        SECRET_KEY="from the environment",
        PUBLIC_URL="https://shop.example",
    )
    assert settings["X402"]["PAY_TO"] == PAYEE
    assert settings["X402"]["BASE_URL"] == "https://shop.example"
    network = settings["X402"]["NETWORKS"]["eip155:84532"]
    assert network["CONFIRMATIONS"] == 3
    assert network["ASSETS"] == [
        {"ADDRESS": TOKEN, "NAME": "USDC", "VERSION": "2", "SYMBOL": "USDC", "DECIMALS": 18}
    ]
    assert settings["X402"]["FACILITATORS"]["default"] == {
        "BACKEND": "x402_django.facilitators.RemoteFacilitator",
        "OPTIONS": {"URL": "https://facilitator.example"},
    }
    database = settings["DATABASES"]["default"]
    assert (database["ENGINE"], database["HOST"], database["PORT"], database["NAME"]) == (
        "django.db.backends.postgresql",
        "db.example",
        5433,
        "shop",
    )
    assert settings["CELERY_BROKER_URL"] == "redis://broker.example/0"
    assert "CELERY_BROKER_TRANSPORT_OPTIONS" not in settings
    assert settings["SECRET_KEY"] == "from the environment"
    assert settings["SESSION_COOKIE_SECURE"] is True


def test_the_secret_key_is_made_once_and_for_us_alone(load: Any, tmp_path: Path) -> None:
    first, second = load()["SECRET_KEY"], load()["SECRET_KEY"]
    assert first == second
    assert len(first) == 64
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("secret_key*")] == ["secret_key"]
