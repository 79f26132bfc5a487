"""The shop as an MCP server: the official client's session buys tools from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.test import Client
from eth_account import Account
from x402 import x402Client
from x402.mcp.client import x402MCPSession
from x402.mechanisms.evm.exact.register import register_exact_evm_client

import demo_project
from x402_django.models import Payment, PriceRule
from x402_django.testing.instant import InstantFacilitator

pytestmark = [pytest.mark.django_db, pytest.mark.urls("demo_project.urls")]


@pytest.fixture(autouse=True)
def _templates(settings: Any) -> None:
    own = Path(demo_project.__file__).parent / "templates"
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [own]}]


def rpc(client: Client, method: str, **params: Any) -> Any:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = client.post("/mcp/", message, content_type="application/json")
    assert answer.status_code == 200, answer.content
    return answer.json()


class Session:
    """What the official session expects of an MCP client: ``call_tool``, over HTTP."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent: list[Any] = []

    async def call_tool(
        self, name: str, arguments: Any, read_timeout_seconds: Any = None, meta: Any = None
    ) -> Any:
        params = {"name": name, "arguments": arguments, **({"_meta": meta} if meta else {})}
        self.sent.append(params)
        result = (await sync_to_async(rpc)(self.client, "tools/call", **params))["result"]
        return SimpleNamespace(
            content=[SimpleNamespace(**one) for one in result["content"]],
            isError=result["isError"],
            structuredContent=result.get("structuredContent"),
            meta=result.get("_meta"),
        )


@pytest.fixture
def wallet() -> Any:
    account = Account.create()
    client = x402Client()
    register_exact_evm_client(client, account)
    return client, account.address


@async_to_sync
async def call(session: Session, wallet: Any, name: str, **arguments: Any) -> Any:
    return await x402MCPSession(session, wallet[0]).call_tool(name, arguments)


def test_the_official_client_buys_a_tool(client: Client, wallet: Any) -> None:
    session = Session(client)
    result = call(session, wallet, "weather")
    assert (result.is_error, result.payment_made) == (False, True)
    assert json.loads(result.content[0].text)["paid_by"] == wallet[1]
    payment = Payment.objects.get()
    assert (payment.amount, payment.payer, payment.state) == (10_000, wallet[1], "settled")
    assert payment.resource_url == "https://shop.example/weather/"
    assert result.payment_response.transaction == payment.transaction
    # The very same call is answered by the ledger.
    again = rpc(client, "tools/call", **session.sent[1])["result"]
    assert again["content"][0]["text"] == result.content[0].text
    assert InstantFacilitator.calls["settle"] == 1


def test_a_tool_costs_what_the_rule_in_the_admin_says(client: Client, wallet: Any) -> None:
    PriceRule.objects.create(name="a", price_usd="0.25", url_names=["article"])
    result = call(Session(client), wallet, "article", slug="what-is-x402")
    assert "What is x402?" in result.content[0].text
    assert Payment.objects.get().amount == 250_000


def test_a_payment_for_one_tool_does_not_pay_for_another(client: Client, wallet: Any) -> None:
    PriceRule.objects.create(name="a", price_usd="0.01", url_names=["article"])
    session = Session(client)
    call(session, wallet, "weather")
    stolen = {**session.sent[1], "name": "article", "arguments": {"slug": "what-is-x402"}}
    result = rpc(client, "tools/call", **stolen)["result"]
    assert result["isError"] is True
    assert result["structuredContent"]["error"] == "payment_already_used"
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]


def test_what_is_broken_or_unreadable_costs_nothing(client: Client, wallet: Any) -> None:
    PriceRule.objects.create(name="a", price_usd="0.25", url_names=["article"])
    missing = call(Session(client), wallet, "article", slug="no-such-article")
    assert missing.is_error is True
    garbled = rpc(client, "tools/call", name="weather", _meta={"x402/payment": "garbage"})
    assert garbled["result"]["isError"] is True
    assert InstantFacilitator.settled == []
    assert not Payment.objects.exclude(state="released").exists()


def test_the_protocol_around_it(client: Client) -> None:
    hello = rpc(client, "initialize", protocolVersion="2025-06-18")["result"]
    assert hello["capabilities"] == {"tools": {}}
    tools = {tool["name"]: tool for tool in rpc(client, "tools/list")["result"]["tools"]}
    assert set(tools) == {"weather", "complete", "article"}
    assert tools["article"]["inputSchema"]["required"] == ["slug"]
    assert rpc(client, "ping")["result"] == {}
    assert rpc(client, "resources/list")["error"]["code"] == -32601
    assert rpc(client, "tools/call", name="nothing")["error"]["code"] == -32602
    assert rpc(client, "tools/call", name="article", arguments={})["error"]["code"] == -32602
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert client.post("/mcp/", note, content_type="application/json").status_code == 202
    garbage = client.post("/mcp/", b"[", content_type="application/json")
    assert garbage.json()["error"]["code"] == -32600
    assert client.get("/mcp/").status_code == 405
