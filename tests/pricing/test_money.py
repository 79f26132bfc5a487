"""Dollars and atomic units: exact, in both directions."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from tests.settings import X402
from x402_django.exceptions import ConfigurationError
from x402_django.pricing.money import format_amount, parse_usd, to_atomic

UINT256 = st.integers(0, 2**256 - 1)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("$0.01", "0.01"),
        ("0.01", "0.01"),
        (" $1 ", "1"),
        ("$0.0001", "0.0001"),
        ("1e3", "1000"),
        (Decimal("0.05"), "0.05"),
        (3, "3"),
        (10**30, str(10**30)),
    ],
)
def test_prices(price, expected):
    assert parse_usd(price) == Decimal(expected)


@pytest.mark.parametrize(
    "price",
    [
        "", "$", "free", "$$1", "1,00", "€1", None, 0.01, True, b"1", [1], "0x10", "NaN",
        "Infinity", "-Infinity", "sNaN", "0", "$0", 0, Decimal(0), Decimal("-0"), "-1", "$-0.01",
        -5, "0.00009", Decimal("0.00009999"), "1e-30",
    ],
)  # fmt: skip
def test_what_is_no_price_or_dust_is_refused(price):
    with pytest.raises(ConfigurationError):
        parse_usd(price)


def test_the_minimum_is_a_setting():
    with override_settings(X402={**X402, "MINIMUM_PRICE": "0.5"}):
        assert parse_usd("0.5") == Decimal("0.5")
        with pytest.raises(ConfigurationError, match="MINIMUM_PRICE"):
            parse_usd("0.49")


@given(units=st.integers(0, 10**40), decimals=st.integers(0, 24))
def test_a_price_of_whole_units_converts_exactly(units, decimals):
    usd = Decimal(units) if not decimals else Decimal((0, tuple(map(int, str(units))), -decimals))
    assert to_atomic(usd, decimals) == units


@given(units=st.integers(1, 10**30), decimals=st.integers(0, 18), finer=st.integers(1, 6))
def test_a_price_finer_than_the_token_is_refused(units, decimals, finer):
    digits = tuple(map(int, str(units * 10**finer + 1)))
    with pytest.raises(ConfigurationError, match="exactly"):
        to_atomic(Decimal((0, digits, -(decimals + finer))), decimals)


@given(amount=UINT256, decimals=st.integers(0, 30))
def test_a_formatted_amount_reads_back_exactly(amount, decimals):
    whole, _, fraction = format_amount(amount, decimals).partition(".")
    assert len(fraction) >= min(2, decimals)
    assert int(whole + fraction.ljust(decimals, "0")) == amount


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (10_000, 6, "0.01 USDC"),
        (1, 6, "0.000001 USDC"),
        (0, 6, "0.00 USDC"),
        (1_500_000, 6, "1.50 USDC"),
        (7, 0, "7 USDC"),
        (7, 1, "0.7 USDC"),
        (2**256 - 1, 18, str(2**256 - 1)[:-18] + "." + str(2**256 - 1)[-18:] + " USDC"),
    ],
)
def test_amounts_as_people_write_them(amount, decimals, text):
    assert format_amount(amount, decimals, "USDC") == text
