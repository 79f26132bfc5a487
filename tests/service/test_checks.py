"""What ``manage.py check`` says of the facilitator service."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service import support
from x402_django.checks import check_numbers, check_service

REMOTE = {
    "BACKEND": "x402_django.facilitators.RemoteFacilitator",
    "OPTIONS": {"URL": "https://facilitator.example"},
}


def ids(settings: Any, urls: str = "tests.service.urls", **changes: Any) -> list[str]:
    settings.ROOT_URLCONF = urls
    settings.X402 = support.x402_settings(**changes)
    return [str(message.id).removeprefix("x402_django.") for message in check_service()]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"SERVICE_FACILITATOR": None}, ["E050"]),
        ({"SERVICE_FACILITATOR": "nobody"}, ["E050"]),
        ({"SERVICE_FACILITATOR": ["default"]}, ["E050"]),
        ({"FACILITATORS": {"default": REMOTE}}, ["E050"]),
        ({"SETTLEMENT_TIMEOUT": 30}, ["W051"]),
    ],
)
def test_the_setting(settings: Any, changes: dict[str, Any], expected: list[str]) -> None:
    assert ids(settings, **changes) == expected


def test_an_address_that_is_missing(settings: Any) -> None:
    assert ids(settings, "tests.admin.urls") == ["W050"]
    assert ids(settings, "tests.admin.urls", SERVICE_FACILITATOR=None) == []


@pytest.mark.parametrize("key", ["SERVICE_MAX_BODY_BYTES", "SERVICE_MAX_PARALLEL"])
def test_numbers(settings: Any, key: str) -> None:
    settings.X402 = support.x402_settings(**{key: 0})
    assert [message.id for message in check_numbers()] == ["x402_django.E010"]
