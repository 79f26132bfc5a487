"""CONFIRMATIONS: numbers, tags and tiers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from x402_django.finality import ConfirmationTier, parse_confirmations, required_depth

TIERS = [(0, 1), (Decimal("10"), 3), ("1000", "finalized")]


@pytest.mark.parametrize("depth", [1, 12, "safe", "finalized"])
def test_a_depth_alone_holds_for_every_payment(depth) -> None:
    assert parse_confirmations(depth) == (ConfirmationTier(Decimal(0), depth),)


@pytest.mark.parametrize(
    ("usd", "depth"),
    [
        ("0.0001", 1),
        ("9.99999999", 1),
        ("10", 3),
        ("999.99", 3),
        ("1000", "finalized"),
        ("1000000", "finalized"),
        (None, "finalized"),
    ],
)
def test_the_depth_grows_with_the_amount(usd, depth) -> None:
    tiers = parse_confirmations(TIERS)
    assert required_depth(tiers, None if usd is None else Decimal(usd)) == depth


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (0, "is no depth"),
        (-1, "is no depth"),
        (True, "is no depth"),
        ("latest", "is no depth"),
        ("3", "is no depth"),
        (1.5, "or tiers"),
        (None, "or tiers"),
        ([], "or tiers"),
        ({}, "or tiers"),
        ([1, 2], "as pairs"),
        ([(0, 1, 2)], "as pairs"),
        (["01"], "as pairs"),
        ([(1, 1)], "begin at 0"),
        ([(0, 1), (0, 2)], "must rise"),
        ([(0, 1), (10, 2), (5, 3)], "must rise"),
        ([(0, 3), (10, 1)], "less depth"),
        ([(0, "safe"), (10, 99)], "less depth"),
        ([(0, "finalized"), (10, "safe")], "less depth"),
        ([(0, 1), ("NaN", 2)], "no number of dollars"),
        ([(0, 1), ("ten", 2)], "no number of dollars"),
        ([(-1, 1)], "no number of dollars"),
        ([(0, 1), (True, 2)], "no number of dollars"),
        ([(0, 1), (10, 0)], "is no depth"),
    ],
)
def test_what_is_no_depth_is_refused_with_a_sentence(raw, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_confirmations(raw)
