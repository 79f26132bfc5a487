"""What is missing or wrong in the environment is said in a sentence, before anything starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo_project import surroundings
from demo_project.children import Children
from demo_project.errors import DemoError
from x402_django.testing.chain import running_devchain

PAYEE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
KEY = "0x" + "1" * 64


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("X402_") or name in ("PORT", "DATABASE_URL"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    with running_devchain() as server:
        yield server.url


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, node: str) -> pytest.MonkeyPatch:
    """An environment in which nothing is missing."""
    monkeypatch.setenv("X402_RPC_URL", node)
    monkeypatch.setenv("X402_PAY_TO", PAYEE)
    monkeypatch.setenv("X402_SETTLER_KEY", KEY)
    return monkeypatch


def complaint() -> str:
    with pytest.raises(DemoError) as caught:
        surroundings.describe_chain()
    return str(caught.value)


def test_the_node_tells_its_network(given: pytest.MonkeyPatch) -> None:
    assert surroundings.describe_chain() == {"X402_NETWORK": "eip155:1337"}


def test_the_contract_tells_about_the_token(given: pytest.MonkeyPatch) -> None:
    given.setenv("X402_ASSET", "0x700b6a60ce7eaaea56f065753d8dcb9653dbad35")
    assert surroundings.describe_chain() == {
        "X402_NETWORK": "eip155:1337",
        "X402_ASSET_NAME": "Test Dollar",
        "X402_ASSET_VERSION": "1",
        "X402_ASSET_SYMBOL": "TUSD",
        "X402_ASSET_DECIMALS": "6",
    }


def test_what_was_given_about_the_token_wins(given: pytest.MonkeyPatch) -> None:
    given.setenv("X402_ASSET", "0x700b6A60ce7EaaEA56F065753d8dcB9653dbAD35")
    given.setenv("X402_ASSET_VERSION", "2")
    assert surroundings.describe_chain()["X402_ASSET_VERSION"] == "2"


def test_a_contract_that_is_no_token(given: pytest.MonkeyPatch) -> None:
    given.setenv("X402_ASSET", PAYEE)
    assert complaint().startswith(f"X402_ASSET ({PAYEE}) is not a token of eip155:1337")


def test_no_payee(given: pytest.MonkeyPatch) -> None:
    given.delenv("X402_PAY_TO")
    assert complaint().startswith("X402_PAY_TO is not set")


@pytest.mark.parametrize("typed", ["0x3C44", PAYEE.replace("dD", "Dd"), PAYEE[2:], "shop.eth"])
def test_a_payee_with_a_typing_error(given: pytest.MonkeyPatch, typed: str) -> None:
    given.setenv("X402_PAY_TO", typed)
    assert complaint().startswith(f"X402_PAY_TO is '{typed}', which is not an address")


def test_nobody_to_settle(given: pytest.MonkeyPatch) -> None:
    given.delenv("X402_SETTLER_KEY")
    assert complaint().startswith("X402_SETTLER_KEY is not set.")
    given.setenv("X402_FACILITATOR_URL", "https://facilitator.example")
    assert surroundings.describe_chain() == {"X402_NETWORK": "eip155:1337"}


def test_a_node_of_another_network(given: pytest.MonkeyPatch) -> None:
    given.setenv("X402_NETWORK", "eip155:84532")
    assert "X402_NETWORK is eip155:84532, but the node" in complaint()


def test_a_node_that_is_not_there_and_no_key_of_its_in_the_sentence(
    given: pytest.MonkeyPatch,
) -> None:
    given.setenv("X402_RPC_URL", "http://user:secret@127.0.0.1:9/v2/secret")
    assert complaint() == ("The node that X402_RPC_URL names (http://127.0.0.1:9) does not answer.")


def test_a_network_without_a_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("X402_NETWORK", "eip155:84532")
    with pytest.raises(DemoError, match="X402_NETWORK needs X402_RPC_URL"):
        surroundings.start_chain(Children(tmp_path), Path("manage.py"))


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((surroundings.HOST, 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        with pytest.raises(DemoError, match=f"Port {port} of 127.0.0.1 is taken"):
            surroundings.web_port()
    assert surroundings.web_port() == port


@pytest.mark.parametrize("text", ["http", "-1", "65536", "80.0"])
def test_a_port_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PORT", text)
    with pytest.raises(DemoError, match="is not a port number"):
        surroundings.web_port()


def test_any_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")
    assert surroundings.web_port() > 1023
