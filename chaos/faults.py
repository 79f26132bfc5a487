"""Named points of the shop's code at which its processes kill themselves, with SIGKILL.

Nothing of this is in the product: functions are wrapped from outside when the shop starts. Which
point is next is decided among all processes, through one small file under a lock: one at which the
fewest have died so far, or, if none of those is passed, any; and one every ``CHAOS_EVERY`` seconds
at most. ``CHAOS_DIR`` holds the file; without that variable nobody dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

#: Where the shop's code is wrapped: module, attribute, and what the point is called.
POINTS = (
    ("x402_django.models.querysets", "PaymentQuerySet.claim", "claim"),
    ("x402_django.models.querysets", "PaymentQuerySet.update", "note on a payment"),
    ("x402_django.facilitators.local", "LocalFacilitator.verify", "verify"),
    ("x402_django.facilitators.local", "LocalFacilitator.settle", "settle"),
    ("x402_django.chain.broadcast", "hand_over", "broadcast"),
    ("x402_django.payments.machine", "move", "transition"),
    ("django.db.backends.base.base", "BaseDatabaseWrapper.commit", "commit"),
)
STATE = "crashes.json"
#: A file of this name says that nobody is to die any more.
CALM = "calm"


def install() -> None:
    """Wrap the shop's functions. Raises AttributeError if one has another name by now."""
    if "CHAOS_DIR" not in os.environ:
        return
    for module, path, name in POINTS:
        owner: Any = import_module(module)
        *classes, attribute = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        setattr(owner, attribute, _deadly(getattr(owner, attribute), name))


def point(name: str) -> None:
    """A place where this process may end now, if it is its turn."""
    directory = os.environ.get("CHAOS_DIR")
    if directory is None or (Path(directory) / CALM).exists():
        return
    with (Path(directory) / STATE).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or '{"deaths": {}, "last": 0}')
        deaths = state["deaths"]
        is_new = name not in deaths
        deaths.setdefault(name, 0)
        now = time.time()
        patience = (now - state["last"]) / float(os.environ.get("CHAOS_EVERY", "1"))
        is_next = deaths[name] == min(deaths.values()) or patience > 3
        dies = patience > 1 and is_next and random.random() < 0.5
        if dies:
            deaths[name] += 1
            state["last"] = now
        if dies or is_new:
            file.truncate(0)
            file.write(json.dumps(state))
            file.flush()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


def deaths(directory: Path) -> dict[str, int]:
    """How many processes have died at each point that any has passed."""
    try:
        found: dict[str, int] = json.loads((directory / STATE).read_text())["deaths"]
    except FileNotFoundError:
        return {}
    return found


def _deadly(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        what = _transition(*args) if name == "transition" else name
        point(f"before {what}")
        result = function(*args, **kwargs)
        point(f"after {what}")
        return result

    return wrapped


def _transition(alias: str, payment: Any, values: Any, *rest: Any) -> str:
    return f"{payment.state} → {values['state']}"
