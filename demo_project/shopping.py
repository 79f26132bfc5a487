"""Send the agent to the shop, and compare what it says with the ledger and the chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from demo_project import books
from demo_project.agent import ERRANDS, Purchase
from demo_project.console import note, say
from demo_project.wallets import Purse, balance
from x402_django.conf import x402
from x402_django.models import Payment, Receipt
from x402_django.pricing.money import format_amount
from x402_django.protocol.assets import to_checksum_address

if TYPE_CHECKING:
    from demo_project.children import Children
    from x402_django.protocol.assets import KnownAsset

#: Seconds until the chain's answer must have reached us, and the worker must have confirmed.
CHAIN_SECONDS = 30.0
CONFIRM_SECONDS = 90.0


def go_shopping(children: Children, url: str, asset: KnownAsset, purse: Purse) -> bool:
    """Buy everything and print the table; whether all of it went as it must."""
    payee = to_checksum_address(x402.pay_to or "")
    before = balance(asset, payee), balance(asset, purse.address)
    newest = Receipt.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    note("agent", f"{purse.address} ({purse.origin}) with {_money(asset, before[1])}")
    say(f"\n{books.heading()}")
    purchases = []
    for purchase in _purchases(url, asset, purse, children.log_dir / "agent.log"):
        purchases.append(purchase)
        say(books.row(purchase, _receipt(purchase)))
    receipts = [_facts(receipt) for receipt in Receipt.objects.filter(pk__gt=newest)]
    total = sum(receipt.amount for receipt in receipts)
    _await_balance(asset, payee, before[0] + total)
    received = books.Movement(before[0], balance(asset, payee))
    spent = books.Movement(before[1], balance(asset, purse.address))
    say()
    note("receipts", f"{len(receipts)}, of {_money(asset, total)} in all")
    note("on chain", f"the agent spent {_money(asset, -spent.change)}")
    note("", f"the merchant received {_money(asset, received.change)}")
    wrong = books.complaints(ERRANDS, purchases, receipts, received, spent)
    for complaint in wrong or ["none: receipts and chain agree to the last unit"]:
        note("WRONG" if wrong else "errors", complaint)
    return _are_confirmed(children, newest, len(receipts)) and not wrong


def _purchases(url: str, asset: KnownAsset, purse: Purse, log: Path) -> Iterator[Purchase]:
    """The agent's own words, as it says them. It gets its key, and nothing of the shop's."""
    command = [sys.executable, "-m", "demo_project.agent", url]
    command += ["--network", asset.network, "--asset", asset.address]
    if x402.base_url:
        command += ["--origin", x402.base_url]
    node = os.environ.get("X402_RPC_URL", "").partition(",")[0]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with (
        log.open("w") as diary,
        subprocess.Popen(
            command,
            env={**kept, "X402_AGENT_KEY": purse.key, "X402_AGENT_RPC_URL": node},
            stdout=subprocess.PIPE,
            stderr=diary,
            text=True,
            start_new_session=True,
        ) as agent,
    ):
        try:
            for line in agent.stdout or ():
                diary.write(line)
                yield Purchase(**json.loads(line))
        finally:
            agent.kill()  # it has ended, or we are being stopped


def _await_balance(asset: KnownAsset, address: str, expected: int) -> None:
    """Give the node time: behind a load balancer it may lag behind the one that settled."""
    deadline = time.monotonic() + CHAIN_SECONDS
    while balance(asset, address) != expected and time.monotonic() < deadline:
        time.sleep(0.5)


def _are_confirmed(children: Children, newest: int, expected: int) -> bool:
    """Wait for the worker to find every payment on the chain; whether it did in time."""
    payments = Payment.objects.filter(receipt__pk__gt=newest)
    started = time.monotonic()
    while (final := payments.filter(state=Payment.State.FINAL).count()) < expected:
        children.check()
        if time.monotonic() - started > CONFIRM_SECONDS:
            note("WRONG", f"the worker has confirmed {final} of {expected} payments")
            return False
        time.sleep(0.2)
    waited = time.monotonic() - started
    note("final", f"{final} payments, found on the chain by the Celery worker ({waited:.1f} s)")
    return True


def _receipt(purchase: Purchase) -> books.ReceiptFacts | None:
    if not purchase.transaction:
        return None
    receipt = Receipt.objects.filter(transaction=purchase.transaction).first()
    return _facts(receipt) if receipt is not None else None


def _facts(receipt: Receipt) -> books.ReceiptFacts:
    if receipt.price_usd is not None:
        price = f"${receipt.price_usd.normalize():f}"
    else:
        price = format_amount(receipt.amount, receipt.asset_decimals, receipt.asset_symbol)
    return books.ReceiptFacts(receipt.reference, receipt.transaction, receipt.amount, price)


def _money(asset: KnownAsset, amount: int) -> str:
    sign = "-" if amount < 0 else ""
    return sign + format_amount(abs(amount), asset.decimals, asset.symbol)
