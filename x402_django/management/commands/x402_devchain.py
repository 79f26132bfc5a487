"""``manage.py x402_devchain``: the embedded development chain on JSON-RPC."""

from __future__ import annotations

import json
import re
import signal
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

if TYPE_CHECKING:
    from x402_django.chain.devchain import DevChain, DevServer

WEI_PER_FUND = 100 * 10**18
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


class Command(BaseCommand):
    """Serves until SIGINT or SIGTERM."""

    help = "Run a development chain: an EVM with a test dollar, on JSON-RPC over loopback."
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
        parser.add_argument("--port", type=int, default=8545, help="0 takes a free one")
        parser.add_argument("--chain-id", type=int, default=1337)
        parser.add_argument(
            "--block-time",
            type=float,
            default=0,
            metavar="SECONDS",
            help="time between blocks; 0 (default) mines each transaction at once",
        )
        parser.add_argument(
            "--heartbeat",
            type=float,
            default=2,
            metavar="SECONDS",
            help="with instant mining, an empty block after so long (default 2; 0: never)",
        )
        parser.add_argument(
            "--fund", action="append", default=[], metavar="ADDRESS", help="send it 100 ether"
        )
        parser.add_argument(
            "--mint",
            action="append",
            default=[],
            metavar="ADDRESS=AMOUNT",
            help="test dollars for it, e.g. 0x…=12.50",
        )
        parser.add_argument(
            "--json", action="store_true", help="print the summary as one JSON line"
        )
        parser.add_argument(
            "--allow-remote",
            action="store_true",
            help="allow a host that other machines can reach; they can then do anything to it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Start the chain, say where it is, serve until told to stop."""
        try:
            from x402_django.chain.devchain import DevChain, DevServer
        except ImportError as error:
            raise CommandError(f'{error}; pip install "x402-django[devchain]"') from error
        from x402_django.chain.devchain.server import is_loopback

        if not is_loopback(options["host"]) and not options["allow_remote"]:
            raise CommandError(
                f"{options['host']} is not a loopback address; use --allow-remote if other "
                "machines may mint, rewind and stop this chain."
            )
        funded = [_address(text) for text in options["fund"]]
        minted = [_mint(text) for text in options["mint"]]
        chain = DevChain(
            options["chain_id"],
            block_time=options["block_time"],
            heartbeat=options["heartbeat"],
        )
        for address in funded:
            chain.fund(address, WEI_PER_FUND)
        for address, amount in minted:
            chain.mint(address, amount)
        try:
            server = DevServer(chain, options["host"], options["port"])
        except OSError as error:
            raise CommandError(f"cannot listen: {error.strerror or error}") from error
        stopped = _stop_event()
        with server:
            self._announce(summary(chain, server), as_json=options["json"])
            stopped.wait()
        self.stdout.write("stopped")

    def _announce(self, facts: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(facts))
        else:
            self.stdout.write(_as_text(facts))
        self.stdout.write(f"ready: {facts['rpc_url']}")
        self.stdout.flush()


def summary(chain: DevChain, server: DevServer) -> dict[str, Any]:
    """What somebody who wants to use the chain has to know."""
    from x402_django.chain.devchain import deployment

    return {
        "rpc_url": server.url,
        "chain_id": chain.chain_id,
        "network": chain.network,
        "token": {
            "address": deployment.TOKEN_ADDRESS,
            "name": deployment.TOKEN_NAME,
            "version": deployment.TOKEN_VERSION,
            "symbol": deployment.TOKEN_SYMBOL,
            "decimals": deployment.TOKEN_DECIMALS,
        },
        "multicall3": deployment.MULTICALL3_ADDRESS,
        "smart_wallet_factory": deployment.FACTORY_ADDRESS,
        "accounts": [
            {
                "address": account.address,
                "private_key": account.private_key,
                "dollars": chain.dollars(account.address),
            }
            for account in chain.accounts
        ],
    }


def _as_text(facts: dict[str, Any]) -> str:
    token = facts["token"]
    accounts = "\n".join(
        f"  {account['address']}  {account['private_key']}" for account in facts["accounts"]
    )
    return (
        f"RPC URL      {facts['rpc_url']}\n"
        f"Chain        {facts['network']}\n"
        f"Test dollar  {token['address']}  ({token['symbol']}, {token['decimals']} decimals, "
        f'EIP-712 name "{token["name"]}", version "{token["version"]}")\n'
        f"Multicall3   {facts['multicall3']}\n"
        f"Wallets by   {facts['smart_wallet_factory']}\n"
        f"\nAccounts with 10000 ether each. These keys are PUBLIC test keys that everybody knows:\n"
        f"never send anything of value to these addresses on any network.\n"
        f"{accounts}\n"
    )


def _address(text: str) -> str:
    if not ADDRESS.fullmatch(text):
        raise CommandError(f"not an address: {text}")
    from eth_utils.address import to_checksum_address

    return to_checksum_address(text)


def _mint(text: str) -> tuple[str, int]:
    """``ADDRESS=AMOUNT`` with the amount in dollars; returns it in atomic units, exactly."""
    from decimal import Decimal, InvalidOperation

    from x402_django.chain.devchain.deployment import TOKEN_DECIMALS

    address, _, dollars = text.partition("=")
    try:
        amount = Decimal(dollars).scaleb(TOKEN_DECIMALS)
        whole = int(amount)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise CommandError(f"not an amount of dollars: {text}") from error
    if whole != amount or not 0 < whole < 2**128:
        raise CommandError(f"not an amount of dollars with at most 6 decimals: {text}")
    return _address(address), whole


def _stop_event() -> threading.Event:
    """An event that SIGINT and SIGTERM set; only the main thread can listen to signals."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
    return stopped
