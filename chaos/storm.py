"""What goes wrong, and when."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.buyers import ALLOWANCE
from chaos.proxy import Way
from chaos.world import World

#: Blocks that are replaced at most: less than the confirmations after which a payment is final.
DEEPEST: Final = 2
#: Seconds that a gust lasts, and a lull at most; payments that settle in a lull.
GUST: Final = (4.0, 9.0)
LULL: Final = 15.0
ENOUGH: Final = 12


@dataclass(slots=True)
class _Misfortune:
    """Something that befalls the shop every ``least`` to ``most`` seconds."""

    befall: Callable[[], None]
    least: float
    most: float
    at: float = 0.0


class Storm(threading.Thread):
    """Kills, cuts and reorganises until it is over; then everything works again.

    It comes in gusts. In the lulls between them payments get on, so that the next gust meets some
    in every state. ``poor`` are addresses of buyers who have less than they want to spend.
    """

    def __init__(self, world: World, seed: str, poor: Sequence[str]) -> None:
        super().__init__(daemon=True, name="storm")
        #: What has gone wrong with the chain, and how often.
        self.chain: Counter[str] = Counter()
        self.error: Exception | None = None
        self._world = world
        self._poor = poor
        self._chooser = random.Random(seed)
        self._over = threading.Event()
        self._blocks_at = float("inf")
        self._misfortunes = (
            _Misfortune(self._kill, 3, 9),
            _Misfortune(self._cut_off, 1.5, 4),
            _Misfortune(self._reorganise, 2, 5),
            _Misfortune(self._stall, 10, 30),
            _Misfortune(self._forget, 3, 7),
            _Misfortune(self._front_run, 1, 3),
            _Misfortune(self._use_key, 6, 14),
        )

    def run(self) -> None:
        """One misfortune after another, some of them at once."""
        try:
            while not self._over.is_set():
                self._world.calm(False)
                self._blow(time.monotonic() + self._chooser.uniform(*GUST))
                self._abate()
        except Exception as error:
            self.error = error
        finally:
            self._abate()

    def end(self) -> None:
        """Fair weather again."""
        self._over.set()
        self.join()

    def _blow(self, until: float) -> None:
        """A gust."""
        now = time.monotonic()
        for one in self._misfortunes:
            one.at = now + self._chooser.uniform(0, one.most)
        while now < until and not self._over.wait(0.05):
            self._world.services.tend()
            now = time.monotonic()
            for one in self._misfortunes:
                if now >= one.at:
                    one.at = now + self._chooser.uniform(one.least, one.most)
                    one.befall()
            if now >= self._blocks_at:
                self._go_on()

    def _abate(self) -> None:
        """A lull: until a few payments have settled, or some time has passed."""
        self._world.calm(True)
        self._world.proxy.way = Way.OPEN
        self._go_on()
        self._world.node.mint(self._poor, ALLOWANCE)
        settled, until = _settlements(), time.monotonic() + LULL
        while _settlements() < settled + ENOUGH and time.monotonic() < until:
            self._world.services.tend()
            if self._over.wait(0.2):
                return

    def _go_on(self) -> None:
        self._blocks_at = float("inf")
        self._world.node.go_on()

    def _kill(self) -> None:
        services = self._world.services
        services.kill(self._chooser.choice(list(services.services)), self._chooser)

    def _cut_off(self) -> None:
        """For now and then longer than a request waits for its settlement."""
        proxy = self._world.proxy
        if proxy.way is Way.OPEN:
            proxy.way = self._chooser.choice([*Way][1:])
            length = self._chooser.choice([0.5, 1.0, 1.5, 4.0])
            self._misfortunes[1].at = time.monotonic() + self._chooser.uniform(0.5, 1.0) * length
        else:
            proxy.way = Way.OPEN

    def _reorganise(self) -> None:
        depth = self._chooser.randint(1, DEEPEST)
        kept = self._chooser.random() < 0.5
        try:
            self._world.node.reorganise(depth, keep=kept)
        except RuntimeError:  # a block came in between
            return
        self.chain["reorganised, moved" if kept else "reorganised, lost"] += 1

    def _stall(self) -> None:
        """No blocks for longer than the shop waits before it pays more; often it must then."""
        node = self._world.node
        node.stall()
        if self._chooser.random() < 0.7:
            node.raise_base_fee(3)
            self.chain["dearer"] += 1
        self._blocks_at = time.monotonic() + self._chooser.uniform(5, 7)
        self.chain["stalled"] += 1

    def _forget(self) -> None:
        self.chain["transactions forgotten"] += self._world.node.forget()

    def _front_run(self) -> None:
        self.chain["transactions front-run"] += self._world.node.front_run()

    def _use_key(self) -> None:
        self._world.node.use_key(self._chooser.randrange(2))
        self.chain["nonces used elsewhere"] += 1


def _settlements() -> int:
    """How many payments have ever settled."""
    from django.db import close_old_connections

    from x402_django.models import Receipt

    close_old_connections()
    return Receipt.objects.count()
