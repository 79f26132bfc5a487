"""What the agent makes of the shop's answers."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from demo_project.agent import ERRANDS, FREE, NOT_CHARGED, PAID, Errand, run_errand

PAYER = "0x1234567890123456789012345678901234567890"


def settled(**changes: Any) -> dict[str, str]:
    """The header that an honest shop sends."""
    response = {
        "success": True,
        "transaction": "0xaa",
        "network": "eip155:1337",
        "payer": PAYER,
        "amount": "10000",
        **changes,
    }
    return {"PAYMENT-RESPONSE": base64.b64encode(json.dumps(response).encode()).decode()}


async def answer(response: httpx.Response, errand: Errand = ERRANDS[1]) -> Any:
    transport = httpx.MockTransport(lambda request: response)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        return await run_errand(http, errand)


async def test_a_purchase() -> None:
    bought = await answer(httpx.Response(200, headers=settled()))
    assert (bought.what, bought.status, bought.outcome) == ("GET /weather/", 200, PAID)
    assert (bought.payer, bought.transaction, bought.amount) == (PAYER, "0xaa", 10_000)


async def test_something_free() -> None:
    assert (await answer(httpx.Response(200))).outcome == FREE


@pytest.mark.parametrize("status", [402, 500, 503])
async def test_an_error_without_a_settlement_is_not_a_charge(status: int) -> None:
    assert (await answer(httpx.Response(status))).outcome == NOT_CHARGED


async def test_a_failed_settlement_is_not_a_charge() -> None:
    headers = settled(success=False, transaction="", errorReason="insufficient_funds")
    assert (await answer(httpx.Response(402, headers=headers))).outcome == NOT_CHARGED


async def test_an_error_after_the_charge_is_a_charge() -> None:
    assert (await answer(httpx.Response(500, headers=settled()))).outcome == PAID


async def test_no_answer() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(refuse), base_url="http://shop"
    ) as http:
        nothing = await run_errand(http, ERRANDS[0])
    assert (nothing.status, nothing.error) == (0, "ConnectError: refused")
    assert nothing.outcome == NOT_CHARGED
