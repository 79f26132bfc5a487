"""The environment variables of the shop: completed, and checked before anything is started.

Without ``X402_RPC_URL`` the demo brings its own chain. With it, whatever cannot be guessed must be
given; what is missing is said in a sentence.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from demo_project.console import note
from demo_project.errors import DemoError

if TYPE_CHECKING:
    from pathlib import Path

    from web3 import Web3

    from demo_project.children import Children

HOST = "127.0.0.1"
WEB_PORT = 8402
CHAIN_PORT = 8545
CHAIN_ID = 1337

#: The parts of a token that its contract tells.
_TOKEN_ABI: Any = [
    {
        "type": "function",
        "stateMutability": "view",
        "name": name,
        "inputs": [],
        "outputs": [{"name": "", "type": kind}],
    }
    for name, kind in (
        ("name", "string"),
        ("version", "string"),
        ("symbol", "string"),
        ("decimals", "uint8"),
    )
]


def start_chain(children: Children, manage: Path) -> dict[str, str]:
    """Start the embedded chain; the variables that describe it, its public test wallet included."""
    needs_chain = [
        name for name in ("X402_NETWORK", "X402_FACILITATOR_URL", "X402_ASSET") if os.getenv(name)
    ]
    if needs_chain:
        raise DemoError(
            f"{' and '.join(needs_chain)} needs X402_RPC_URL, a node of that network. "
            "Without any of them the demo brings its own chain."
        )
    if os.getenv("X402_PAY_TO"):
        check_payee()
    # A chain of its own has a history of its own. The demo's SQLite file is begun anew with it;
    # a database that was given is kept, and must not take this chain for an earlier one.
    note("chain", "starting the embedded development chain")
    chain_id = int(time.time()) if os.getenv("DATABASE_URL") else CHAIN_ID
    port = CHAIN_PORT if port_is_free(CHAIN_PORT) else 0
    command = [sys.executable, str(manage), "x402_devchain", "--json"]
    command += ["--port", str(port), "--chain-id", str(chain_id)]
    child = children.start("devchain", command, os.environ)

    def announced() -> str | None:
        lines = child.log.read_text().splitlines()
        return lines[0] if lines and lines[-1].startswith("ready:") else None

    facts = json.loads(children.wait_for("the development chain", announced, seconds=60))
    token = facts["token"]
    return {
        "X402_RPC_URL": facts["rpc_url"],
        "X402_NETWORK": facts["network"],
        "X402_NETWORK_NAME": "Development chain",
        "X402_ASSET": token["address"],
        "X402_ASSET_NAME": token["name"],
        "X402_ASSET_VERSION": token["version"],
        "X402_ASSET_SYMBOL": token["symbol"],
        "X402_ASSET_DECIMALS": str(token["decimals"]),
        "X402_SETTLER_KEY": facts["accounts"][0]["private_key"],
        "X402_PAY_TO": os.getenv("X402_PAY_TO") or facts["accounts"][1]["address"],
    }


def describe_chain() -> dict[str, str]:
    """The same for the node that ``X402_RPC_URL`` names, from the environment and from the node."""
    url = os.environ["X402_RPC_URL"]
    w3, network = _connect(url)
    wanted = os.getenv("X402_NETWORK") or network
    if wanted != network:
        raise DemoError(
            f"X402_NETWORK is {wanted}, but the node at {host_of(url)} is of {network}."
        )
    check_payee()
    if not (os.getenv("X402_SETTLER_KEY") or os.getenv("X402_FACILITATOR_URL")):
        raise DemoError(
            "X402_SETTLER_KEY is not set. Give the private key of a wallet that has some gas on "
            f"{network}, or with X402_FACILITATOR_URL a service that settles instead."
        )
    asset = os.getenv("X402_ASSET")
    return {"X402_NETWORK": network, **(_token(w3, asset, network) if asset else {})}


def check_payee() -> None:
    """Raise DemoError unless ``X402_PAY_TO`` is an address without a typing error."""
    from x402_django.protocol.assets import has_valid_checksum

    payee = os.getenv("X402_PAY_TO")
    if not payee:
        raise DemoError("X402_PAY_TO is not set: to which address shall buyers pay?")
    if not has_valid_checksum(payee):
        raise DemoError(
            f"X402_PAY_TO is {payee!r}, which is not an address: 0x and 40 hexadecimal digits, "
            "in one case or with a right checksum."
        )


def _connect(url: str) -> tuple[Web3, str]:
    import requests
    from web3 import Web3
    from web3.exceptions import Web3Exception

    w3 = Web3(Web3.HTTPProvider(url.split(",")[0], request_kwargs={"timeout": 10}))
    try:
        return w3, f"eip155:{w3.eth.chain_id}"
    except (requests.RequestException, Web3Exception, ValueError):
        # Not chained: the message may hold the URL, and that an API key.
        raise DemoError(
            f"The node that X402_RPC_URL names ({host_of(url)}) does not answer."
        ) from None


def _token(w3: Web3, address: str, network: str) -> dict[str, str]:
    """A token's name, version, symbol and decimals: what was given, else what its contract says."""
    from web3.exceptions import Web3Exception

    facts = {}
    try:
        contract = w3.eth.contract(address=w3.to_checksum_address(address), abi=_TOKEN_ABI)
        for part in ("name", "version", "symbol", "decimals"):
            variable = f"X402_ASSET_{part.upper()}"
            facts[variable] = os.getenv(variable) or str(contract.functions[part]().call())
    except (Web3Exception, ValueError, OverflowError) as error:
        raise DemoError(
            f"X402_ASSET ({address}) is not a token of {network} with EIP-3009: its contract does "
            f"not tell its name, version, symbol and decimals ({type(error).__name__}). What it "
            "does not tell may be given as X402_ASSET_NAME, _VERSION, _SYMBOL and _DECIMALS."
        ) from None
    return facts


def port_is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of the loopback interface now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def web_port() -> int:
    """``PORT``, if it is free; 0 takes any that is. Raises DemoError."""
    text = os.getenv("PORT") or str(WEB_PORT)
    if not text.isdecimal() or int(text) > 65535:
        raise DemoError(f"PORT is {text!r}, which is not a port number.")
    port = int(text)
    if port == 0:
        with socket.create_server((HOST, 0)) as probe:
            return int(probe.getsockname()[1])
    if not port_is_free(port):
        raise DemoError(
            f"Port {port} of {HOST} is taken by another program. Choose another one: "
            f"PORT={port + 1}."
        )
    return port


def host_of(url: str) -> str:
    """The part of a node's URL that may be shown: its path and user often are an API key."""
    parts = urlsplit(url.partition(",")[0])
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
