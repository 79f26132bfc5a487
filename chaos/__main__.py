"""Command line: ``python -m chaos``. Exit status 0: nothing lost, nothing doubled."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from chaos.audit import Books, audit, read_chain, wait_until_quiet
from chaos.buyers import ALLOWANCE, PURSE, Buyer
from chaos.nodes import NETWORK
from chaos.storm import Storm
from chaos.world import BROKERS, MissingService, World, running_world

#: Exit status where a service is missing: nothing was tested.
MISSING = 3
#: Seconds that buyers have to finish what they have begun, and payments to become final.
RECOVERY = 150.0
#: Every so manieth buyer has less than it wants to spend.
POOR = 5


def main() -> int:
    """Run it; the exit status."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    say = (lambda text: print(text, file=sys.stderr, flush=True)) if options.json else print
    say(f"seed {seed}, {options.seconds:.0f} s, {options.buyers} buyers, {options.broker}")
    try:
        with running_world(
            broker=options.broker,
            fragile=not options.calm,
            every=options.every,
            block_time=options.block_time,
        ) as world:
            return _run(world, options, seed, say)
    except MissingService as missing:
        print(f"Not run: {missing}.", file=sys.stderr)
        return MISSING


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="of shopping (default 120)")
    parser.add_argument(
        "--seed", type=int, help="of what happens when; timing stays your machine's"
    )
    parser.add_argument("--buyers", type=int, default=10)
    parser.add_argument("--broker", choices=sorted(BROKERS), default="redis")
    parser.add_argument("--block-time", type=float, default=1, help="seconds between blocks")
    parser.add_argument(
        "--every", type=float, default=100, help="crash points passed between deaths (default 100)"
    )
    parser.add_argument("--calm", action="store_true", help="nothing goes wrong")
    parser.add_argument("--purchases", type=int, default=0, help="at most so many for each buyer")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    parser.add_argument("--logs", action="store_true", help="print the processes' logs at the end")
    return parser.parse_args()


def _run(world: World, options: argparse.Namespace, seed: int, say: Any) -> int:
    closing = threading.Event()
    buyers = [
        Buyer(
            world.sites,
            f"{seed}/{number}",
            until=closing,
            hasty=not options.calm,
            most=options.purchases,
            poor=not options.calm and number % POOR == 0,
        )
        for number in range(options.buyers)
    ]
    poor = [buyer.payer.address for buyer in buyers if buyer.poor]
    world.node.mint(poor, ALLOWANCE)
    world.node.mint([buyer.payer.address for buyer in buyers if not buyer.poor], PURSE)
    world.node.found()
    storm = Storm(world, f"{seed}/storm", poor)
    say("shopping")
    started = time.monotonic()
    for thread in (*buyers, *(() if options.calm else (storm,))):
        thread.start()
    while time.monotonic() - started < options.seconds and any(b.is_alive() for b in buyers):
        time.sleep(0.1)
    closing.set()
    say("fair weather: recovering")
    if not options.calm:
        storm.end()
        world.node.mint(poor, PURSE)
    books = _recover(world, buyers, time.monotonic() + RECOVERY)
    for error in (storm.error, *(buyer.error for buyer in buyers)):
        if error is not None:
            books.lost.append(f"The run itself broke: {error!r}")
    report = _report(world, options, seed, buyers, storm, books, time.monotonic() - started)
    if options.logs:
        for log in sorted(world.directory.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')}", file=sys.stderr)
    print(json.dumps(report) if options.json else _as_text(report))
    return int(bool(books.lost or books.doubled))


def _recover(world: World, buyers: list[Buyer], deadline: float) -> Books:
    while any(buyer.is_alive() for buyer in buyers) and time.monotonic() < deadline:
        world.services.tend()
        time.sleep(0.1)
    unserved = sum(buyer.is_alive() for buyer in buyers)
    for buyer in buyers:
        buyer.given_up.set()
    for buyer in buyers:
        buyer.join(60)
    left = wait_until_quiet(max(deadline - time.monotonic(), 10), world.services.tend)
    purchases = [purchase for buyer in buyers for purchase in buyer.purchases]
    purses = {buyer.payer.address for buyer in buyers}
    poor = {buyer.payer.address for buyer in buyers if buyer.poor}
    books = audit(read_chain(NETWORK, world.payee, purses), NETWORK, purchases, poor)
    books.lost += left
    if unserved:
        books.lost.append(f"{unserved} buyers are still waiting for what they have begun to buy.")
    return books


def _report(
    world: World,
    options: argparse.Namespace,
    seed: int,
    buyers: list[Buyer],
    storm: Storm,
    books: Books,
    seconds: float,
) -> dict[str, Any]:
    told: dict[str, int] = {}
    for buyer in buyers:
        for what, count in buyer.told.items():
            told[what] = told.get(what, 0) + count
    purchases = [purchase for buyer in buyers for purchase in buyer.purchases]
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "broker": options.broker,
        "killed": dict(world.services.kills),
        "killed_themselves": world.deaths(),
        "restarts": world.services.restarts(),
        "rpc_connections_harmed": dict(world.proxy.harmed),
        "chain": dict(sorted(storm.chain.items())),
        "answers": dict(sorted(told.items())),
        "purchases": len(purchases),
        "served": sum(bool(purchase.copies) for purchase in purchases),
        "sites": len(world.sites),
        **asdict(books),
    }


def _as_text(report: dict[str, Any]) -> str:
    points: dict[str, int] = report["killed_themselves"]
    kills = sum(report["killed"].values()) + sum(points.values())
    harmed = sum(report["rpc_connections_harmed"].values())
    met = sum(count > 0 for count in points.values())
    lines = [
        f"seed {report['seed']}, {report['seconds']} s with recovery, on {report['broker']}",
        f"killed          {kills}: by the supervisor {_counts(report['killed'])}",
        f"crash points    {met} of the {len(points)} that were passed:",
        *(f"  {count:>4}  {name}" for name, count in sorted(points.items())),
        f"node            {harmed} connections harmed: {_counts(report['rpc_connections_harmed'])}",
        f"chain           {_counts(report['chain'])}",
        f"answers         {_counts(report['answers'])}",
        f"purchases       {report['purchases']}, {report['served']} served",
        f"payments        {report['payments']}: {_counts(report['states'])}",
        f"by flow         {_counts(report['by_flow'])}; views ran {report['runs']} times",
        f"transactions    by payments in them: {_counts(report['groups'])}",
        f"payee has       {report['received']}",
        f"receipts        {report['booked']} in {report['receipts']}",
        f"delivered       {report['delivered']}, of which {report['defaulted']} in default",
        f"owed            {report['owed']}",
        *(f"  debt          {debt}" for debt in report["debts"]),
        *(f"LOST            {sentence}" for sentence in report["lost"]),
        *(f"DOUBLED         {sentence}" for sentence in report["doubled"]),
        f"{len(report['lost'])} lost, {len(report['doubled'])} doubled",
    ]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


if __name__ == "__main__":
    sys.exit(main())
