"""A database, a queue and a chain of its own, and the shop between them."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.anvil import NoAnvil
from benchmarks.databases import postgres_database
from chaos import faults
from chaos.nodes import Node, running_anvil
from chaos.processes import Services, beat, free_port, web, worker
from chaos.proxy import Proxy

BROKERS = {
    "redis": "redis://127.0.0.1:6379/0",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}
START_SECONDS = 90.0


class MissingService(Exception):
    """Something that must run on this machine does not."""


@dataclass(slots=True)
class World:
    """``sites`` are the addresses of the web processes; ``node`` is reached directly."""

    directory: Path
    services: Services
    proxy: Proxy
    node: Node
    payee: str
    sites: tuple[str, ...]

    def calm(self, calm: bool) -> None:
        """Whether, from now on, no process kills itself."""
        if calm:
            (self.directory / faults.CALM).touch()
        else:
            (self.directory / faults.CALM).unlink(missing_ok=True)

    def deaths(self) -> dict[str, int]:
        """Processes that have killed themselves, by the point at which they did."""
        return faults.deaths(self.directory)


@contextmanager
def running_world(
    *, broker: str, fragile: bool, every: float, block_time: float
) -> Iterator[World]:
    """Everything, set up and serving; all of it is gone afterwards. Sets Django up for the ledger.

    ``fragile``: the shop's processes kill themselves, one after about ``every`` points passed.
    ``block_time`` in seconds. Raises MissingService.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="x402-chaos-")))
        database, why = stack.enter_context(postgres_database())
        if database is None:
            raise MissingService(why)
        queue = f"x402_chaos_{secrets.token_hex(6)}"
        stack.enter_context(_queue(BROKERS[broker], queue))
        try:
            node = stack.enter_context(running_anvil(block_time))
        except NoAnvil as error:
            raise MissingService(f"no Anvil: {error}") from error
        proxy = stack.enter_context(Proxy(node.url))
        environment = {
            **_inherited(),
            "DJANGO_SETTINGS_MODULE": "chaos.settings",
            "DATABASE_URL": database,
            "CELERY_BROKER_URL": BROKERS[broker],
            "CHAOS_QUEUE": queue,
            "DEMO_VAR_DIR": str(directory),
            "SECRET_KEY": secrets.token_hex(32),
            **_wallets(),
            "X402_RPC_URL": node.url,
            "X402_PAY_TO": _address(),
            # As behind a load balancer: a payment for one of the two is a payment for the other.
            "PUBLIC_URL": "http://shop.example",
            "LOG_LEVEL": "WARNING",
        }
        _prepare(environment)
        shop = environment | {"X402_RPC_URL": proxy.url, "PYTHONUNBUFFERED": "1"}
        if fragile:
            shop |= {"CHAOS_DIR": str(directory), "CHAOS_EVERY": str(every)}
        services = Services(shop, directory)
        stack.callback(services.stop)
        sites = _open_shop(services, directory)
        payee = environment["X402_PAY_TO"]
        yield World(directory, services, proxy, node, payee, sites)


def _open_shop(services: Services, directory: Path) -> tuple[str, ...]:
    ports = free_port(), free_port()
    services.add("web-1", *web("chaos.wsgi:application", "gthread", ports[0]))
    services.add("web-2", *web("chaos.asgi:application", "uvicorn_worker.UvicornWorker", ports[1]))
    services.add("worker-1", *worker("one"))
    services.add("worker-2", *worker("two"))
    services.add("beat", *beat(directory / "beat"))
    sites = tuple(f"http://127.0.0.1:{port}" for port in ports)
    for site in sites:
        _wait_for(f"{site} to serve", lambda site=site: _serves(site), services)  # type: ignore[misc]
    return sites


def _prepare(environment: dict[str, str]) -> None:
    """Django, in this process, on the same ledger; and its tables."""
    os.environ.update(environment)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False, run_syncdb=True)


def _inherited() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _wallets() -> dict[str, str]:
    from x402_django.chain.devchain.accounts import dev_accounts

    first, second, *_ = dev_accounts()
    return {"CHAOS_WALLET_1": first.private_key, "CHAOS_WALLET_2": second.private_key}


def _address() -> str:
    from eth_account import Account

    return str(Account.create().address)


@contextmanager
def _queue(url: str, name: str) -> Iterator[None]:
    """Make sure of the broker, and leave no queue behind. Raises MissingService."""
    from kombu import Connection, Exchange, Queue

    try:
        with Connection(url, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (OSError, Connection(url).transport.connection_errors) as error:  # type: ignore[misc]
        raise MissingService(f"no broker at {url.rpartition('@')[2]}") from error
    try:
        yield
    finally:
        # As Celery declares it; only what was declared here is forgotten altogether.
        with Connection(url, connect_timeout=3) as connection:
            exchange = Exchange(name, type="direct")(connection.default_channel)
            queue = Queue(name, exchange, routing_key=name)(connection.default_channel)
            queue.declare()
            queue.delete()
            exchange.delete()


def _serves(site: str) -> bool:
    try:
        with urlopen(f"{site}/up/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait_for(what: str, look: Callable[[], Any], services: Services | None) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            logs = services.log_dir.glob("*.log") if services else ()
            tails = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)
            raise TimeoutError(f"Waited {START_SECONDS:.0f} s for {what}.\n{tails}")
        if services is not None:
            services.tend()
        time.sleep(0.1)
    return found
