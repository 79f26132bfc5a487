"""Payments settled on a real node: per second, and what gas they use.

Both sides run their whole paid request in this process, each with a wallet of its own on the same
node: ours with ``LocalFacilitator`` and the ledger, theirs with the SDK's facilitator and signer.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks.anvil import NoAnvil, running_anvil
from benchmarks.databases import POSTGRES, SQLITE, configured, using
from benchmarks.payments import offer_of, signed_headers, transaction_in
from benchmarks.report import Report
from benchmarks.settings import PAY_TO
from benchmarks.settings import X402 as SITE
from benchmarks.site import Site
from benchmarks.wsgi import Application, call, environ_for
from x402_django.testing.payer import Payer

PATH = "/paid/weather"
CHAIN_ID = 1337
NETWORK = f"eip155:{CHAIN_ID}"
AT_ONCE = 8
#: Seconds between looks for a receipt: the SDK's own, given to both.
POLL_INTERVAL = 0.1


@dataclass(slots=True)
class Seller:
    """One side. Rates are payments per second, times milliseconds."""

    name: str
    app: Application
    offer: dict[str, Any]
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE))
    times: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    rates_at_once: list[float] = field(default_factory=list)
    transactions: list[str] = field(default_factory=list)
    failures: int = 0
    rpc_calls: float = 0

    def sell(self, environ: dict[str, Any]) -> None:
        started = perf_counter()
        answer = call(self.app, environ)
        self.times.append((perf_counter() - started) * 1000)
        if answer.status == 200:
            self.transactions.append(transaction_in(answer))
        else:
            self.failures += 1

    def one_by_one(self, environs: list[dict[str, Any]]) -> float:
        """Payments per second."""
        started = perf_counter()
        for environ in environs:
            self.sell(environ)
        return len(environs) / (perf_counter() - started)

    def at_once(self, environs: list[dict[str, Any]]) -> float:
        """Payments per second by AT_ONCE threads, as in a threaded server."""
        times = len(self.times)
        started = perf_counter()
        list(self.pool.map(self.sell, environs))
        rate = len(environs) / (perf_counter() - started)
        del self.times[times:]  # how long one takes is measured one by one
        return rate

    def close(self) -> None:
        """End the threads, each with its database connection."""
        barrier = threading.Barrier(AT_ONCE)
        list(self.pool.map(_close_connections, [barrier] * AT_ONCE))
        self.pool.shutdown()


def _close_connections(barrier: threading.Barrier) -> None:
    from django.db import connections

    barrier.wait(30)  # so that each thread gets one of these
    connections.close_all()


def run(site: Site, report: Report, *, quick: bool) -> None:
    """Skipped, with the reason, where there is no Anvil."""
    report.heading("Payments settled on Anvil")
    try:
        with running_anvil(CHAIN_ID) as url:
            _measure(site, report, url, rounds=1 if quick else 5, count=8 if quick else 40)
    except NoAnvil as why:
        report.not_measured("payments per second on Anvil", str(why))


def _measure(site: Site, report: Report, url: str, *, rounds: int, count: int) -> None:
    from django.test import override_settings
    from web3 import HTTPProvider, Web3

    from x402_django.chain.devchain.accounts import dev_accounts
    from x402_django.testing.chain import install_contracts

    w3 = Web3(HTTPProvider(url))
    install_contracts(w3)
    payers = buyers(w3)
    our_key, their_key = (dev_accounts()[index].private_key for index in (1, 2))
    database = POSTGRES if POSTGRES in configured() else SQLITE
    with override_settings(X402=settings(url, our_key)), using(database):
        ours = new_seller(f"x402-django, ledger on {database}", site.gated)
        theirs = new_seller("official Flask middleware and facilitator", official(url, their_key))
        pay = partial(environs, payers)
        sellers = (ours, theirs)
        try:
            for seller in sellers:
                seller.at_once(pay(seller, 2 * AT_ONCE))  # opens what stays open
                with _counted_requests() as requests:
                    seller.one_by_one(pay(seller, 5))
                seller.rpc_calls = len(requests) / 5
                seller.times.clear()
            for number in range(rounds):
                for seller in sellers if number % 2 == 0 else sellers[::-1]:
                    seller.rates.append(seller.one_by_one(pay(seller, count)))
                    seller.rates_at_once.append(seller.at_once(pay(seller, count)))
        finally:
            for seller in sellers:
                seller.close()
    _print(report, w3, ours, theirs, rounds=rounds, count=count)


def _print(
    report: Report, w3: Any, ours: Seller, theirs: Seller, *, rounds: int, count: int
) -> None:
    report.line(f"{rounds} rounds of {count} payments a side and column, in turns")
    gas = {seller.name: _gas(w3, seller.transactions) for seller in (ours, theirs)}
    header = (
        "median of rounds (min–max)",
        "one by one, /s",
        f"{AT_ONCE} at once, /s",
        "ms p50",
        "ms p95",
        "gas",
        "RPC calls",
        "failed",
    )
    rows = []
    for seller in (ours, theirs):
        times = sorted(seller.times)
        rows.append(
            (
                seller.name,
                _spread(seller.rates),
                _spread(seller.rates_at_once),
                f"{statistics.median(times):.1f}",
                f"{times[len(times) * 95 // 100]:.1f}",
                f"{gas[seller.name]:.0f}",
                f"{seller.rpc_calls:.1f}",
                str(seller.failures),
            )
        )
    rows.append(
        (
            "ours/theirs",
            f"{_ratio(ours.rates, theirs.rates):.2f}",
            f"{_ratio(ours.rates_at_once, theirs.rates_at_once):.2f}",
            f"{statistics.median(ours.times) / statistics.median(theirs.times):.2f}",
            "",
            f"{gas[ours.name] / gas[theirs.name]:.3f}",
            f"{ours.rpc_calls / theirs.rpc_calls:.2f}",
            "",
        )
    )
    report.table(header, rows)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _gas(w3: Any, transactions: list[str]) -> float:
    """Of all transactions, for each payment: several may share one."""
    used = sum(w3.eth.get_transaction_receipt(one)["gasUsed"] for one in set(transactions))
    return float(used) / max(len(transactions), 1)


def new_seller(name: str, app: Application) -> Seller:
    return Seller(name, app, offer_of(call(app, environ_for(PATH))))


def environs(buyers: tuple[Payer, ...], seller: Seller, count: int) -> list[dict[str, Any]]:
    headers = signed_headers(seller.offer, count, buyers)
    return [environ_for(PATH, one) for one in headers]


def buyers(w3: Any, count: int = AT_ONCE) -> tuple[Payer, ...]:
    """Payers with more test dollars than they will spend."""
    from eth_account import Account

    from x402_django.chain.devchain.accounts import dev_accounts
    from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
    from x402_django.testing.chain import DOLLAR, send_transaction, token_contract

    token = token_contract(w3)
    rich = Account.from_key(dev_accounts()[3].private_key)
    found = tuple(Payer() for _ in range(count))
    for buyer in found:
        data = token.encode_abi("mint", [buyer.address, 1000 * DOLLAR])
        send_transaction(w3, rich, {"to": TOKEN_ADDRESS, "data": data})
    return found


def settings(url: str, key: str) -> dict[str, Any]:
    from x402_django.chain.devchain import deployment

    asset = {
        "ADDRESS": deployment.TOKEN_ADDRESS,
        "NAME": deployment.TOKEN_NAME,
        "VERSION": deployment.TOKEN_VERSION,
        "DECIMALS": deployment.TOKEN_DECIMALS,
        "SYMBOL": deployment.TOKEN_SYMBOL,
    }
    network = {"RPC_URLS": [url], "POLL_INTERVAL": POLL_INTERVAL, "ASSETS": [asset]}
    backend = "x402_django.facilitators.LocalFacilitator"
    return {
        **SITE,
        "NETWORKS": {NETWORK: network},
        "FACILITATORS": {"default": {"BACKEND": backend, "OPTIONS": {"KEY": key}}},
    }


def official(url: str, key: str) -> Application:
    from x402.facilitator import x402FacilitatorSync
    from x402.mechanisms.evm.exact import register_exact_evm_facilitator
    from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
    from x402.schemas import AssetAmount

    from benchmarks.official import paid_app
    from x402_django.chain.devchain import deployment

    facilitator = x402FacilitatorSync()
    register_exact_evm_facilitator(facilitator, FacilitatorWeb3Signer(key, url), NETWORK)
    price = AssetAmount(
        amount="10000",
        asset=deployment.TOKEN_ADDRESS,
        extra={"name": deployment.TOKEN_NAME, "version": deployment.TOKEN_VERSION},
    )
    return paid_app(facilitator, network=NETWORK, pay_to=PAY_TO, price=price)


@contextmanager
def _counted_requests() -> Iterator[list[str]]:
    """The HTTP requests that are sent meanwhile; both sides speak to the node through requests."""
    from requests.adapters import HTTPAdapter

    sent: list[str] = []
    lock = threading.Lock()
    real = HTTPAdapter.send

    def send(adapter: Any, request: Any, **kwargs: Any) -> Any:
        with lock:
            sent.append(request.url)
        return real(adapter, request, **kwargs)

    HTTPAdapter.send = send  # type: ignore[assignment, method-assign]
    try:
        yield sent
    finally:
        HTTPAdapter.send = real  # type: ignore[method-assign]
