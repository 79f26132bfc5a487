"""What facilitators are told is built from our offer."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme

from tests.protocol.builders import make_offer, make_signed
from x402_django.protocol import sdk

ROOM = "types wire strict offers signatures challenge settlement networks assets sdk"


def test_requirements() -> None:
    offer = make_offer()
    model = sdk.to_sdk_requirements(offer)
    assert model.model_dump(by_alias=True) == offer.as_v2()
    assert model.get_amount() == "10000"


@pytest.mark.parametrize("version", [1, 2])
def test_payload_is_v2_whatever_the_client_spoke(version: int) -> None:
    signed = make_signed(version=version)
    assert sdk.to_sdk_payload(signed).model_dump(by_alias=True, exclude_none=True) == {
        "x402Version": 2,
        "payload": signed.payload_dict(),
        "accepted": signed.offer.as_v2(),
        "resource": {"url": signed.resource_url},
    }


def test_http_client_speaks_to_the_facilitator() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"isValid": True, "payer": "0x0"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as transport:
        client = sdk.http_facilitator_client("https://facilitator.example/", 5, transport)
        signed = make_signed()
        result = client.verify(sdk.to_sdk_payload(signed), sdk.to_sdk_requirements(signed.offer))
    assert result.is_valid
    assert [str(request.url) for request in seen] == ["https://facilitator.example/verify"]


class NoSigner:
    def get_addresses(self) -> list[str]:
        return []


def test_facilitator_scheme() -> None:
    scheme = sdk.facilitator_scheme(NoSigner(), simulate_in_settle=True)  # type: ignore[arg-type]
    assert isinstance(scheme, ExactEvmScheme)
    with pytest.raises(TypeError):
        sdk.facilitator_scheme(NoSigner(), no_such_option=1)  # type: ignore[arg-type]


def test_importing_the_room_loads_neither_the_sdk_nor_web3() -> None:
    """A site's start-up must not pay for them; a fresh interpreter tells."""
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        f"for name in {ROOM.split()!r}: import_module('x402_django.protocol.' + name)\n"
        "heavy = {'x402', 'web3', 'eth_account', 'eth_utils', 'eth_keys', 'pydantic', 'httpx'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
