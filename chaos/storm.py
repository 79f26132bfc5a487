"""What goes wrong, and when."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Final

from chaos.proxy import Way
from chaos.world import World

#: Blocks that are replaced at most: less than the confirmations after which a payment is final.
DEEPEST: Final = 2


class Storm(threading.Thread):
    """Kills, cuts and reorganises until it is over; then everything works again."""

    def __init__(self, world: World, seed: str) -> None:
        super().__init__(daemon=True, name="storm")
        self.reorganisations: Counter[str] = Counter()
        self.error: Exception | None = None
        self._world = world
        self._chooser = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """One misfortune after another, some of them at once."""
        world, chooser = self._world, self._chooser
        next_kill = next_way = next_reorganisation = 0.0
        try:
            while not self._over.wait(0.05):
                now = time.monotonic()
                world.services.tend()
                if now >= next_kill:
                    if next_kill:
                        world.services.kill(chooser.choice(list(world.services.services)), chooser)
                    next_kill = now + chooser.uniform(1.5, 4)
                if now >= next_way:
                    was_open = world.proxy.way is Way.OPEN
                    world.proxy.way = chooser.choice([*Way][1:]) if was_open else Way.OPEN
                    # Now and then longer than a request waits for its settlement.
                    length = chooser.choice([0.5, 1.0, 1.5, 5.0]) if was_open else 2.0
                    next_way = now + chooser.uniform(0.5, 1.0) * length
                if now >= next_reorganisation:
                    if next_reorganisation:
                        self._reorganise()
                    next_reorganisation = now + chooser.uniform(3, 6)
        except Exception as error:
            self.error = error
        finally:
            world.proxy.way = Way.OPEN

    def end(self) -> None:
        """Fair weather again."""
        self._over.set()
        self.join()
        self._world.calm()

    def _reorganise(self) -> None:
        depth = self._chooser.randint(1, DEEPEST)
        kept = self._chooser.random() < 0.5
        self._world.node.reorganise(depth, keep=kept)
        self.reorganisations["moved" if kept else "lost"] += 1
