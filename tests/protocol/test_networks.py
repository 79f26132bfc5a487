"""Names of networks."""

from __future__ import annotations

import pytest
from django.test import override_settings
from x402.mechanisms.evm.v1.constants import V1_NETWORK_CHAIN_IDS

from x402_django.protocol import networks


@pytest.mark.parametrize(
    ("network", "chain_id"), [("eip155:1", 1), ("eip155:8453", 8453), ("eip155:84532", 84532)]
)
def test_parse_chain_id(network: str, chain_id: int) -> None:
    assert networks.parse_chain_id(network) == chain_id
    assert networks.is_evm(network)
    assert networks.is_caip2(network)


@pytest.mark.parametrize(
    "network",
    [
        "",
        "base",
        "eip155:",
        "eip155:0",
        "eip155:01",
        "eip155:x",
        "eip155:1\n",
        " eip155:1",
        "EIP155:1",
        "eip155:١",
        "solana:mainnet",
        "eip155:1:2",
        "eip155:-1",
        "eip155:" + "9" * 33,
    ],
)
def test_not_evm(network: str) -> None:
    assert not networks.is_evm(network)
    with pytest.raises(ValueError, match="is not an EVM network"):
        networks.parse_chain_id(network)


def test_caip2() -> None:
    assert networks.is_caip2("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")
    assert networks.is_caip2("cosmos:Binance-Chain-Tigris")
    for name in (
        "base-sepolia",
        "x:1",
        "toolongname:1",
        "eip155:",
        "eip155:" + "1" * 33,
        "eip155:a b",
    ):
        assert not networks.is_caip2(name)


def test_v1_names_both_ways() -> None:
    assert networks.v1_name("eip155:84532") == "base-sepolia"
    assert networks.v1_name("eip155:8453") == "base"
    assert networks.network_of_v1("base-sepolia") == "eip155:84532"
    assert networks.v1_name("eip155:31337") is None
    assert networks.network_of_v1("nowhere") is None


def test_our_v1_names_are_the_sdks_and_the_disputed_ones_are_left_out() -> None:
    ours = {
        name: networks.parse_chain_id(network)
        for name, network in networks._NETWORK_OF_V1.items()
        if networks.is_evm(network)
    }
    rest = {name: at for name, at in networks._NETWORK_OF_V1.items() if name not in ours}
    assert ours.items() <= V1_NETWORK_CHAIN_IDS.items()
    assert rest == {
        "solana": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        "solana-devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    }
    assert not ours.keys() & {"story", "educhain", "skale-base-sepolia"}


@override_settings(
    X402={
        "NETWORKS": {
            "eip155:84532": {
                "V1_NAME": "mine",
                "NAME": "My chain",
                "EXPLORER_URL": "https://scan.example/",
            }
        }
    }
)
def test_settings_win() -> None:
    assert networks.v1_name("eip155:84532") == "mine"
    assert networks.network_of_v1("mine") == "eip155:84532"
    assert networks.display_name("eip155:84532") == "My chain"
    url = networks.explorer_transaction_url("eip155:84532", "0xab")
    assert url == "https://scan.example/tx/0xab"


def test_for_people() -> None:
    assert networks.display_name("eip155:84532") == "Base Sepolia"
    assert networks.display_name("eip155:987654") == "eip155:987654"
    assert networks.is_testnet("eip155:84532")
    assert not networks.is_testnet("eip155:8453")
    assert not networks.is_testnet("eip155:987654")
    assert "eip155:8453" in {known.network for known in networks.known_networks()}


def test_explorer_links() -> None:
    assert (
        networks.explorer_transaction_url("eip155:8453", "0xab") == "https://basescan.org/tx/0xab"
    )
    assert (
        networks.explorer_address_url("eip155:84532", "0xcd")
        == "https://sepolia.basescan.org/address/0xcd"
    )
    assert networks.explorer_transaction_url("eip155:8453", "") == ""
    assert networks.explorer_address_url("eip155:31337", "0xcd") == ""
    assert networks.explorer_address_url("eip155:987654", "0xcd") == ""
