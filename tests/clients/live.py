"""A live site for clients to buy from: real servers, a real ledger, a real (small) chain.

The servers are processes of their own, over one database and one development chain that listens
on loopback. Sockets are bound here and handed down, so no port is ever guessed.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.conftest import missing_service
from x402_django.chain.devchain import DevChain
from x402_django.testing.chain import DOLLAR, new_payer, running_devchain, token_contract
from x402_django.testing.payer import Payer, encode

ROOT = Path(__file__).resolve().parents[2]
CHAIN_ID = 84532  # Base Sepolia's: a network that x402 v1 has a name for
NETWORK = f"eip155:{CHAIN_ID}"
PAY_TO = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
START_SECONDS = 30
THREADS = 20

#: What a load balancer in front of several processes would pass on to each of them.
HOST = {"Host": "shop.example"}

Interface = Literal["wsgi", "asgi"]


@dataclass
class Server:
    """One server process and where it listens."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def kill(self) -> None:
        """SIGKILL for it and its workers, as the kernel does when memory runs out."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it and its workers."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Site:
    """Server processes that share a ledger and a chain."""

    chain: DevChain
    environment: dict[str, str]
    directory: Path
    servers: list[Server] = field(default_factory=list)
    #: Whether each server has its own address for its canonical one.
    is_named: bool = False

    @property
    def url(self) -> str:
        return self.servers[0].url

    @property
    def runs_file(self) -> Path:
        return Path(self.environment["SITE_RUNS_FILE"])

    def start_server(self, interface: Interface = "wsgi") -> Server:
        """Start one more process; it answers when this returns."""
        log = self.directory / f"server-{len(self.servers)}.log"
        with (
            socket.create_server(("127.0.0.1", 0), backlog=256) as listening,
            log.open("wb") as out,
        ):
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            process = subprocess.Popen(
                _command(interface, listening.fileno()),
                cwd=ROOT,
                env=self.environment | ({"SITE_BASE_URL": url} if self.is_named else {}),
                pass_fds=[listening.fileno()],
                start_new_session=True,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        server = Server(process, url, log)
        self.servers.append(server)
        try:
            httpx.get(f"{url}/free/", timeout=START_SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}") from error
        return server

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def manage(self, *arguments: str) -> str:
        """Run a management command of the site; what it printed. Raises if it fails."""
        return self._python("-m", "django", *arguments)

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def run_periodic_tasks(self, *, seconds_from_now: float) -> str:
        """What the Celery worker would do when so much time has gone by; what it says it did."""
        script = (
            "import django; django.setup()\n"
            "from datetime import timedelta\n"
            "from django.core.management import call_command\n"
            "from x402_django import clock\n"
            f"with clock.shifted(timedelta(seconds={seconds_from_now})):\n"
            "    call_command('x402_release')\n"
            "    call_command('x402_confirm')\n"
        )
        return self._python("-c", script)

    def runs(self, payer: str) -> list[str]:
        """The paths of the paid views that ran for ``payer``, in order."""
        if not self.runs_file.exists():
            return []
        lines = (line.split() for line in self.runs_file.read_text().splitlines())
        return [path for path, who in lines if who == payer]

    def logs(self) -> str:
        """The end of what each process has said: what a failed assertion wants to know."""
        return "".join(
            f"\n{server.log.name}:\n{server.log.read_text()[-5000:]}" for server in self.servers
        )

    def ledger(self, payer: str) -> dict[str, Any]:
        """What the site has written about ``payer``."""
        answer: dict[str, Any] = httpx.get(f"{self.url}/ledger/", params={"payer": payer}).json()
        return answer

    def transfers(self, payer: str) -> list[tuple[str, int, str]]:
        """(payee, atomic units, transaction) of each token transfer by ``payer`` on the chain."""
        from web3 import Web3

        token = token_contract(Web3(self.chain.provider()))
        logs = token.events.Transfer().get_logs(from_block=0, argument_filters={"from": payer})
        return [
            (log["args"]["to"], log["args"]["value"], log["transactionHash"].to_0x_hex())
            for log in logs
        ]

    def new_payer(self, dollars: float = 1) -> Any:
        """An account with test dollars and no gas."""
        return new_payer(self.chain, dollars)


def _command(interface: Interface, descriptor: int) -> list[str]:
    if interface == "asgi":
        return [
            *(sys.executable, "-m", "uvicorn", "tests.clients.site.asgi:application"),
            *("--fd", str(descriptor), "--log-level", "warning"),
        ]
    return [
        *(sys.executable, "-m", "gunicorn", "tests.clients.site.wsgi:application"),
        *("--bind", f"fd://{descriptor}", "--worker-class", "gthread"),
        *("--workers", "1", "--threads", str(THREADS), "--graceful-timeout", "2"),
    ]


@contextmanager
def live_site(
    directory: Path,
    *,
    servers: int = 1,
    interface: Interface = "wsgi",
    database_url: str | None = None,
    settings: str = "tests.clients.site.settings",
    beside: Site | None = None,
    facilitator: tuple[str, str] = ("", ""),
) -> Iterator[Site]:
    """A migrated site with its processes; all gone when the block ends.

    ``beside``: on the chain of that site. ``facilitator``: the address of the one that settles,
    and the secret for it; by default the site's own wallet.
    """
    with ExitStack() as stack:
        if beside is None:
            rpc = stack.enter_context(running_devchain(chain_id=CHAIN_ID))
            chain, rpc_url = rpc.chain, rpc.url
        else:
            chain, rpc_url = beside.chain, beside.environment["SITE_RPC_URL"]
        environment = {
            **os.environ,
            "HOME": str(directory),  # gunicorn leaves a control socket there
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": settings,
            "DATABASE_URL": database_url or f"sqlite:///{directory / 'site.sqlite3'}",
            "SITE_RPC_URL": rpc_url,
            "SITE_PAY_TO": PAY_TO,
            "SITE_SETTLER_KEY": chain.accounts[0].private_key,
            "SITE_FACILITATOR_URL": facilitator[0],
            "SITE_FACILITATOR_SECRET": facilitator[1],
            "SITE_RUNS_FILE": str(directory / "runs"),
        }
        site = Site(chain, environment, directory)
        stack.callback(site.stop)
        site.manage("migrate", "--verbosity", "0")
        for _ in range(servers):
            site.start_server(interface)
        yield site


@contextmanager
def postgres_database() -> Iterator[str]:
    """The URL of an empty PostgreSQL database, dropped afterwards.

    On the server that ``DATABASE_URL`` names if that is PostgreSQL, else on the local one.
    """
    import psycopg

    server = os.environ.get("DATABASE_URL", "")
    if not server.startswith("postgres"):
        server = "postgres://postgres@127.0.0.1:5432/postgres"
    try:
        connection = psycopg.connect(server, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        missing_service("PostgreSQL", str(error))
        raise
    name = f"x402_site_{secrets.token_hex(6)}"
    with connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def signed_header(site: Site, method: str, path: str) -> tuple[Payer, dict[str, str]]:
    """A payer with a dollar, and its payment for ``path``, not sent yet."""
    challenge = httpx.request(method, site.url + path, headers=HOST)
    assert challenge.status_code == 402
    offer = decode_header(challenge.headers["PAYMENT-REQUIRED"])["accepts"][0]
    payer = Payer(site.new_payer())
    return payer, {**HOST, "PAYMENT-SIGNATURE": encode(payer.payload(offer))}


def decode_header(value: str) -> dict[str, Any]:
    """The JSON object in a base64 header."""
    document: dict[str, Any] = json.loads(base64.b64decode(value))
    return document


def assert_bought_once(
    site: Site,
    payer: str,
    settlement: dict[str, Any],
    *,
    path: str,
    amount: int,
    version: int,
    earned_before: int,
    dollars: float = 1,
) -> None:
    """Exactly one purchase of ``path``: in the answer, in the ledger, in the view, on chain."""
    ledger = site.ledger(payer)
    transaction = ledger["receipts"][0]["transaction"]
    assert settlement["success"] is True
    assert settlement["payer"] == payer
    assert settlement["transaction"] == transaction
    assert settlement["network"] == (NETWORK if version == 2 else "base-sepolia")
    assert ledger == {
        "payments": [
            {
                "state": "settled",
                "amount": amount,
                "transaction": transaction,
                "version": version,
                "delivered": True,
            }
        ],
        "receipts": [{"amount": amount, "pay_to": PAY_TO, "transaction": transaction}],
        "sent": [transaction],
    }
    assert site.runs(payer) == [path]
    assert site.transfers(payer) == [(PAY_TO, amount, transaction)]
    assert site.chain.dollars(payer) == round(dollars * DOLLAR) - amount
    assert site.chain.dollars(PAY_TO) == earned_before + amount
