"""Aliases, the instance per process, and importing without the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from x402_django.exceptions import ConfigurationError
from x402_django.facilitators.base import get_facilitator, reason_code
from x402_django.facilitators.local import LocalFacilitator

KEY = "0x" + "11" * 32
LOCAL = "x402_django.facilitators.LocalFacilitator"


def configure(settings, **facilitators) -> None:
    settings.X402 = {"FACILITATORS": facilitators}


def test_one_instance_until_the_settings_change(settings) -> None:
    configure(settings, default={"BACKEND": LOCAL, "OPTIONS": {"KEY": KEY}})
    first = get_facilitator("default")
    assert isinstance(first, LocalFacilitator)
    assert get_facilitator("default") is first
    configure(settings, default={"BACKEND": LOCAL, "OPTIONS": {"KEY": KEY}})
    assert get_facilitator("default") is not first


@pytest.mark.parametrize(
    ("backend", "sentence"),
    [
        (None, "has no entry for 'default'. Configured are: none."),
        ("no.such.Facilitator", "cannot be imported"),
        ("x402_django.models.Payment", "is not a subclass of BaseFacilitator"),
        ("", "cannot be imported"),
    ],
)
def test_wrong_configuration_is_named(settings, backend, sentence) -> None:
    configure(settings, **({"default": {"BACKEND": backend}} if backend is not None else {}))
    with pytest.raises(ConfigurationError, match=sentence):
        get_facilitator("default")


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("insufficient_funds", "insufficient_funds"),
        ("invalid_exact_evm_insufficient_balance", "insufficient_funds"),
        ("Some Sentence", "fallback"),
        ("line\nbreak", "fallback"),
        ("token_then_newline\n", "fallback"),
        ("", "fallback"),
        (None, "fallback"),
    ],
)
def test_reason_codes(reason, code) -> None:
    assert reason_code(reason, default="fallback") == code


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"KEY": KEY}, []),
        ({}, ["x402_django.E033"]),
        ({"KEY_ENV": "NO_SUCH_VARIABLE_HERE"}, ["x402_django.E033"]),
        ({"KEY": KEY, "ALLOWED_FACTORIES": "0x" + "1" * 40}, ["x402_django.E034"]),
        ({"KEY": KEY, "ALLOWED_FACTORIES": ["0x12"]}, ["x402_django.E034"]),
        ({"KEY": KEY, "ALLOWED_FACTORIES": ["0x" + "1" * 40]}, []),
        ({"KEY": KEY, "URL": "https://facilitator.example"}, ["x402_django.E030"]),
    ],
)
def test_checks_of_the_local_facilitator(options, ids) -> None:
    messages = LocalFacilitator("default", options).check()
    assert [message.id for message in messages] == ids
    assert KEY[2:] not in "".join(map(str, messages))


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = (
        "import sys, x402_django.facilitators, x402_django.facilitators.base, x402_django.chain;"
        "print([name for name in ('web3', 'x402', 'httpx') if name in sys.modules])"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert run.stdout.strip() == "[]"
