"""An agent that goes shopping: the official x402 client for ``httpx``, as it comes, and a key.

    X402_AGENT_KEY=0x… python -m demo_project.agent http://127.0.0.1:8402 \\
        --network eip155:84532 --asset 0x036CbD53842c5426634e7929541eC2318f3dCF7e

It knows nothing of the shop but its address: no Django, no database. It prints one JSON line for
each thing it asked for. With ``X402_AGENT_RPC_URL``, a node of the network, it can also pay by
Permit2 without having approved it before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

#: Atomic units that the agent will pay for one thing, at most: a dollar, of six decimals.
MOST_PER_PAYMENT = 1_000_000
#: Seconds it waits for an answer; settlement on a public network takes a few.
PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to fetch. ``outcome`` is what an honest shop makes of it."""

    method: str
    path: str
    outcome: str = "paid"
    body: dict[str, Any] | None = None
    #: How the agent comes to have it already, where it has: "again", "pass", "credits".
    by: str = ""

    @property
    def what(self) -> str:
        """``GET /weather/``"""
        return f"{self.method} {self.path} {self.by}".rstrip()


FREE, PAID, NOT_CHARGED = "free", "paid", "not charged"
#: By the token that came with their purchase; for everything else it signs in with its wallet.
BY_CREDITS = "credits"

ERRANDS = (
    Errand("GET", "/free/", FREE),
    Errand("GET", "/weather/"),
    Errand("GET", "/async/quote/"),
    Errand("GET", "/api/forecast/"),
    Errand("POST", "/api/forecast/", body={"place": "Lisbon", "days": 3}),
    Errand("GET", "/llm/?prompt=A+signature"),
    Errand("GET", "/vault/"),
    Errand("GET", "/vault/", FREE, by="again"),
    Errand("GET", "/articles/what-is-x402/"),
    Errand("GET", "/articles/pass/"),
    Errand("GET", "/articles/why-a-ledger/", FREE, by="pass"),
    Errand("GET", "/credits/"),
    Errand("GET", "/api/forecast/", FREE, by=BY_CREDITS),
    Errand("GET", "/broken/", NOT_CHARGED),
)


@dataclass(frozen=True, slots=True)
class Purchase:
    """What came of an errand, as the shop told the agent; ``amount`` is in atomic units.

    ``status`` is 0 where there was no answer, and ``error`` then says why.
    """

    what: str
    status: int
    payer: str
    transaction: str
    amount: int
    seconds: float
    error: str = ""

    @property
    def outcome(self) -> str:
        """``paid``, ``free`` or ``not charged``: the last is an error without a payment."""
        if self.transaction:
            return PAID
        return FREE if self.is_good else NOT_CHARGED

    @property
    def is_good(self) -> bool:
        """Whether the shop delivered."""
        return 200 <= self.status < 400


class SignIn:
    """The extension ``sign-in-with-x`` for the SDK's client: sign in before paying again.

    The SDK has one, for which it needs a library that does not go with current versions of web3.
    """

    key = "sign-in-with-x"

    def __init__(self, account: Any, origin: str) -> None:
        self.account = account
        self.domain = urlsplit(origin).netloc
        self.transport_hooks = SimpleNamespace(http=self)

    async def on_payment_required(self, declared: Any, context: Any) -> Any:
        """The headers to try before a payment; None for a challenge in some other site's name."""
        from x402.schemas.hooks import PaymentRequiredHeadersResult

        from x402_django.testing.sign_in import sign_in_headers

        info = declared["info"]
        if not info["domain"] == urlsplit(info["uri"]).netloc == self.domain:
            return None
        return PaymentRequiredHeadersResult(headers=sign_in_headers(declared, self.account))


def paying_client(key: str, network: str, asset: str, rpc_url: str = "") -> Any:
    """The SDK's client: pays with ``key``, in ``asset`` on ``network``, up to the limit.

    With ``rpc_url`` it can see whether it has approved Permit2, and sign an approval that a shop
    pays for if it has not.
    """
    from eth_account import Account
    from x402 import x402Client
    from x402.mechanisms.evm import EthAccountSigner
    from x402.mechanisms.evm.exact.register import register_exact_evm_client
    from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
    from x402.mechanisms.evm.upto import UptoEvmScheme

    allowed: Any = {
        "network": network,
        "asset": asset,
        "max_amount_per_payment": str(MOST_PER_PAYMENT),
    }
    client = x402Client()
    client.set_spend_controls({"allowed_assets": [allowed]})
    account = Account.from_key(key)
    signer = EthAccountSignerWithRPC(account, rpc_url) if rpc_url else EthAccountSigner(account)
    client.register(network, UptoEvmScheme(signer))
    return register_exact_evm_client(client, signer, network)


async def shop(client: Any, url: str) -> AsyncIterator[Purchase]:
    """Run every errand at the shop at ``url``, one after the other."""
    from x402.http.clients.httpx import x402HttpxClient

    async with x402HttpxClient(client, base_url=url, timeout=PATIENCE) as http:
        tokens: list[str] = []
        for errand in ERRANDS:
            yield await run_errand(http, errand, tokens)


async def run_errand(http: Any, errand: Errand, tokens: list[str] | None = None) -> Purchase:
    """Ask; the client pays if it must; read from the answer what was paid.

    ``tokens`` are those that purchases brought, the latest last: this one's is added to them.
    """
    tokens = [] if tokens is None else tokens
    headers = {"X-402-Access": tokens[-1]} if tokens and errand.by == BY_CREDITS else {}
    import httpx
    from x402.http.clients.httpx import PaymentError

    started = time.perf_counter()
    try:
        response = await http.request(errand.method, errand.path, json=errand.body, headers=headers)
        if "X-402-Access" in response.headers:
            tokens.append(response.headers["X-402-Access"])
        settled = settlement(response)
    except (httpx.HTTPError, PaymentError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        return Purchase(errand.what, 0, "", "", 0, time.perf_counter() - started, reason)
    return Purchase(
        what=errand.what,
        status=response.status_code,
        payer=(settled.payer or "") if settled else "",
        transaction=settled.transaction if settled else "",
        amount=int(settled.amount or 0) if settled else 0,
        seconds=time.perf_counter() - started,
    )


def settlement(response: Any) -> Any:
    """What the shop says it was paid: its ``PAYMENT-RESPONSE``, None unless that says success."""
    from x402.http import decode_payment_response_header

    header = response.headers.get("PAYMENT-RESPONSE")
    settled = decode_payment_response_header(header) if header else None
    return settled if settled is not None and settled.success else None


async def _print_purchases(client: Any, url: str) -> None:
    async for purchase in shop(client, url):
        print(json.dumps(asdict(purchase)), flush=True)


def main() -> int:
    """Go shopping; 0 unless the shop could not be asked at all."""
    from eth_account import Account

    parser = argparse.ArgumentParser(prog="python -m demo_project.agent", description=__doc__)
    parser.add_argument("url", help="the shop, e.g. http://127.0.0.1:8402")
    parser.add_argument("--network", required=True, help="pay on this one (CAIP-2)")
    parser.add_argument("--asset", required=True, help="pay with this token")
    parser.add_argument("--origin", help="the shop's public origin, where it has another")
    options = parser.parse_args()
    key = os.environ.get("X402_AGENT_KEY")
    if not key:
        print("X402_AGENT_KEY is not set: the agent has nothing to pay with.", file=sys.stderr)
        return 1
    rpc_url = os.environ.get("X402_AGENT_RPC_URL", "")
    client = paying_client(key, options.network, options.asset, rpc_url)
    client.register_extension(SignIn(Account.from_key(key), options.origin or options.url))
    asyncio.run(_print_purchases(client, options.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
