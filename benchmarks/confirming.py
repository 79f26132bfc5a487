"""What confirming settled payments asks of a node: requests, counted, and not time."""

from __future__ import annotations

import secrets
from time import perf_counter
from typing import Any, Final

from benchmarks.databases import SQLITE, using
from benchmarks.payments import offer_of, signed_headers
from benchmarks.report import Report
from benchmarks.settings import NETWORK, X402
from benchmarks.site import Site
from benchmarks.wsgi import call, environ_for

PATH: Final = "/paid/weather"
COUNTS: Final = (1_000, 10_000)
#: The same for every count: what is read grows with the blocks, and not with the payments.
BLOCKS: Final = range(81, 101)
WANTED: Final = 20


def run(site: Site, report: Report, *, quick: bool) -> None:
    """On a node whose blocks are written by hand, since it counts what it is asked."""
    from django.test import override_settings

    from tests.chain.scripted import ScriptedNode
    from x402_django.payments.confirmation import confirm_pending_payments

    report.heading("Confirming settled payments")

    class Node(ScriptedNode):
        def eth_chainId(self) -> str:  # noqa: N802 (a method of JSON-RPC)
            return hex(int(NETWORK.split(":")[1]))

    network = {"PROVIDER": "tests.chain.scripted.provider"}
    rows, asked = [], []
    with using(SQLITE), override_settings(X402={**X402, "NETWORKS": {NETWORK: network}}):
        for count in COUNTS[:1] if quick else COUNTS:
            node = Node()
            _settle(site, node, count)
            started = perf_counter()
            final = confirm_pending_payments().final
            rows.append((f"{count:,}", f"{final:,}", str(node.requests), _seconds(started)))
            asked.append(node.requests)
            if final != count:
                raise RuntimeError(f"{final} of {count} payments were confirmed")
    report.table(("payments", "final", "requests", "seconds"), rows)
    report.wanted(f"1,000 payments ≤ {WANTED} requests", str(asked[0]), asked[0] <= WANTED)
    if len(asked) > 1:
        met = asked[1] <= asked[0]
        report.wanted("10,000 in the same blocks: no more", str(asked[1]), met)


def _seconds(started: float) -> str:
    return f"{perf_counter() - started:.1f}"


def _settle(site: Site, node: Any, count: int) -> None:
    """As many settled payments, spread over the blocks, fifty in a transaction."""
    from x402_django.models import Payment, ScannedBlock

    Payment.objects.exclude(state="final").update(state="final")
    ScannedBlock.objects.all().delete()
    offer = offer_of(call(site.gated, environ_for(PATH)))
    call(site.gated, environ_for(PATH, signed_headers(offer, 1)[0]))
    sample = Payment.objects.latest("pk")
    values = {field.attname: getattr(sample, field.attname) for field in sample._meta.fields}
    sample.state = "final"
    sample.save(update_fields=["state"])
    rows = []
    for number in range(count):
        block = BLOCKS[number * len(BLOCKS) // count]
        nonce = "0x" + secrets.token_hex(32)
        place = {"block_number": block, "block_hash": node.hash_of(block)}
        keys = {"id": None, "nonce": nonce, "public_id": secrets.token_hex(20)}
        rows.append(Payment(**{**values, **keys, **place, "state": "settled"}))
    for start in range(0, count, 50):
        _put_on_chain(node, rows[start : start + 50])
    Payment.objects.bulk_create(rows, batch_size=200)


def _put_on_chain(node: Any, rows: list[Any]) -> None:
    transaction = "0x" + secrets.token_hex(32)
    for row in rows:
        before = len(node.logs.get(row.block_number, []))
        paid = (row.payer, row.nonce, row.pay_to, row.amount)
        node.pay(row.block_number, transaction, row.asset.lower(), paid)
        row.transaction, row.log_index = transaction, before + 1
