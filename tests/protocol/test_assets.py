"""Known tokens and addresses."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from tests.protocol.builders import EURC, PAYER, USDC
from x402_django.exceptions import ConfigurationError
from x402_django.protocol.assets import (
    KnownAsset,
    default_asset,
    find_asset,
    has_valid_checksum,
    is_address,
    known_assets,
    to_checksum_address,
)

USDC_ON_BASE_SEPOLIA = KnownAsset("eip155:84532", USDC, "USDC", "2", 6, "USDC")


def with_assets(*assets: dict[str, Any]) -> override_settings:
    return override_settings(X402={"NETWORKS": {"eip155:84532": {"ASSETS": assets}}})


def test_the_sdks_assets() -> None:
    assert default_asset("eip155:84532") == USDC_ON_BASE_SEPOLIA
    assert known_assets("eip155:84532") == [USDC_ON_BASE_SEPOLIA]
    assert [asset.symbol for asset in known_assets("eip155:42220")] == ["USDC", "USDT", "USAT"]
    assert known_assets("eip155:987654") == []
    assert default_asset("eip155:987654") is None


def test_tokens_that_only_take_permit2_are_unknown() -> None:
    assert known_assets("eip155:4326") == []
    assert default_asset("eip155:4326") is None


@pytest.mark.parametrize("name", ["usdc", "USDC", USDC, USDC.lower(), "0x" + USDC[2:].upper()])
def test_find_asset(name: str) -> None:
    assert find_asset("eip155:84532", name) == USDC_ON_BASE_SEPOLIA


@pytest.mark.parametrize("name", ["", "EURC", EURC, "0x", "USD"])
def test_find_asset_that_is_not_known(name: str) -> None:
    assert find_asset("eip155:84532", name) is None


def test_settings_come_first_and_replace_the_sdks_entry() -> None:
    euro = {"ADDRESS": EURC.lower(), "NAME": "EURC", "VERSION": 2}
    mine = {"ADDRESS": USDC, "NAME": "My USDC", "DECIMALS": 8, "SYMBOL": "MINE"}
    with with_assets(euro, mine):
        assert default_asset("eip155:84532") == KnownAsset(
            "eip155:84532", EURC, "EURC", "2", 6, "EURC"
        )
        assert [asset.symbol for asset in known_assets("eip155:84532")] == ["EURC", "MINE"]
        assert find_asset("eip155:84532", "mine") == KnownAsset(
            "eip155:84532", USDC, "My USDC", "1", 8, "MINE"
        )


def test_a_wrong_address_in_the_settings_is_named() -> None:
    with (
        with_assets({"ADDRESS": "0x12", "NAME": "X"}),
        pytest.raises(ConfigurationError, match="0x12"),
    ):
        known_assets("eip155:84532")


@pytest.mark.parametrize(
    "address",  # the examples of EIP-55
    [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_checksum(address: str) -> None:
    assert to_checksum_address(address.lower()) == address
    assert to_checksum_address("0x" + address[2:].upper()) == address
    assert has_valid_checksum(address)


def test_wrong_checksum_is_noticed_where_people_type() -> None:
    wrong = PAYER[:-1] + PAYER[-1].swapcase()
    assert wrong != PAYER
    assert not has_valid_checksum(wrong)
    assert has_valid_checksum(PAYER.lower())
    assert has_valid_checksum("0x" + PAYER[2:].upper())
    assert not has_valid_checksum("0x12")


@pytest.mark.parametrize("value", ["", PAYER[2:], PAYER + "\n", "0X" + PAYER[2:], None, 5, b"0x"])
def test_not_an_address(value: Any) -> None:
    assert not is_address(value)


def test_checksum_of_something_else() -> None:
    with pytest.raises(ValueError, match="20-byte"):
        to_checksum_address("0x12")
