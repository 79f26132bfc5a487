"""``make demo`` and ``make serve``: the shop's processes, and the agent that buys from it.

    python -m demo_project.run [--once]     chain, shop, worker, agent, table; then go on serving
    python -m demo_project.run --serve      shop and worker alone, all from the environment

Here is the order of events; how each is done stands in the modules named after it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from demo_project import services, surroundings
from demo_project.children import Children
from demo_project.console import note, say
from demo_project.errors import DemoError
from x402_django.exceptions import X402Error

if TYPE_CHECKING:
    from x402_django.protocol.assets import KnownAsset

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("DEMO_VAR_DIR") or BASE_DIR / "var")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo or the shop; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo_project.run", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the purchases")
    parser.add_argument("--serve", action="store_true", help="shop and worker alone")
    options = parser.parse_args(arguments)
    # However we are ended, the children end too: a signal becomes an exception.
    # (SIGINT too: a shell that starts us in the background has it ignored.)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, frame: sys.exit(128 + received))
    try:
        with alone(VAR_DIR), Children(VAR_DIR / "log") as children:
            return serve(children) if options.serve else demo(children, once=options.once)
    except (DemoError, X402Error, ImproperlyConfigured) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("\nStopped.")
        return 130


def demo(children: Children, *, once: bool) -> int:
    """Everything; 0 if all was bought and the books are in order to the last unit."""
    port = surroundings.web_port()
    begin_anew()
    own_chain = not os.environ.get("X402_RPC_URL")
    if own_chain:
        os.environ.update(surroundings.start_chain(children, BASE_DIR / "manage.py"))
    else:
        os.environ.update(surroundings.describe_chain())
    asset = set_up_django()
    report_chain(asset, "embedded, and gone when this ends" if own_chain else "from X402_RPC_URL")
    from demo_project import shopping, wallets

    wallets.check_settler(asset)
    purse = wallets.agent_purse(asset)
    password = prepare(asset, renew_password=True)
    url = services.start_shop(children, port, VAR_DIR)
    in_order = shopping.go_shopping(children, url, asset, purse)
    if not in_order or once:
        return 0 if in_order else 1
    print_addresses(url, password)
    children.watch()
    return 0


def serve(children: Children) -> int:
    """Web server and worker, until told to stop."""
    if not os.environ.get("X402_RPC_URL"):
        raise DemoError(
            "X402_RPC_URL is not set: the shop needs a node of the network it is paid on. "
            "`make demo` brings its own chain."
        )
    port = surroundings.web_port()
    os.environ.update(surroundings.describe_chain())
    asset = set_up_django()
    report_chain(asset, "from X402_RPC_URL")
    from demo_project import wallets

    wallets.check_settler(asset)
    password = prepare(asset, renew_password=False)
    print_addresses(services.start_shop(children, port, VAR_DIR), password)
    children.watch()
    return 0


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the files in ``directory`` against a second run. Raises DemoError if there is one."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "demo.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError(
                f"The demo is running already, with its files in {directory}. "
                "Stop that one first, or set DEMO_VAR_DIR to another directory."
            ) from None
        yield


def begin_anew() -> None:
    """Forget the queue of an earlier run, and the ledger of its development chain.

    Such a chain begins with nothing, and a ledger that remembers payments which its chain has
    never seen would have to take them for reorganised away. The ledger of any other network, and
    a database that was given, are never touched.
    """
    shutil.rmtree(VAR_DIR / "celery", ignore_errors=True)
    for pattern in ("celerybeat-schedule*", "demo.sqlite3*"):
        for path in VAR_DIR.glob(pattern):
            path.unlink()


def set_up_django() -> KnownAsset:
    """Load the settings, now that the environment is complete; the token that is asked for."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "demo_project.settings"
    django.setup()
    from x402_django.protocol.assets import default_asset

    network = os.environ["X402_NETWORK"]
    asset = default_asset(network)
    if asset is None:
        raise DemoError(
            f"{network} has no usual dollar token: set X402_ASSET to one with EIP-3009."
        )
    return asset


def prepare(asset: KnownAsset, *, renew_password: bool) -> str | None:
    """Tables, static files, prices and the merchant's login; its password if it is a new one."""
    from django.conf import settings
    from django.core.management import CommandError
    from django.db import DatabaseError

    from demo_project import shop

    given = os.environ.get("DATABASE_URL")
    try:
        shop.prepare_database()
    except CommandError as error:  # the system checks have found something
        raise DemoError(str(error)) from error
    except DatabaseError as error:
        where = "DATABASE_URL" if given else str(VAR_DIR)
        raise DemoError(f"The database ({where}) cannot be used: {error}") from error
    shop.open_shop(asset)
    file = settings.DATABASES["default"]["NAME"]
    note("database", "from DATABASE_URL" if given else f"SQLite, {file}")
    return shop.merchant_login(renew=renew_password)


def report_chain(asset: KnownAsset, source: str) -> None:
    """Say which chain this is, before anything is asked of it."""
    note("chain", f"{asset.network}, {source}; paid in {asset.symbol}, {asset.address}")


def print_addresses(url: str, password: str | None) -> None:
    """Where to look, while it serves."""
    node = surroundings.host_of(os.environ["X402_RPC_URL"])
    login = f"merchant / {password}" if password else "the login is unchanged"
    say(
        f"\n  Shop    {url}/\n"
        f"  Admin   {url}/admin/   {login}\n"
        f"  RPC     {node}   {os.environ['X402_NETWORK']}\n"
        f"  Logs    {VAR_DIR / 'log'}\n"
        "\nServing. Ctrl-C stops everything."
    )


if __name__ == "__main__":
    sys.exit(main())
