"""Named points of the shop's code at which its processes kill themselves, with SIGKILL.

Nothing of this is in the product: the shop's processes are wrapped from outside when they start.
Points lie before and after

* every commit, whoever makes it: of a transaction, and of each statement that writes outside of
  one. It is named by the function of ``NAMES`` that it is made in, a payment's transition by its
  states, and anything else by the tables it writes to, so that no commit is overlooked;
* every broadcast of a transaction, and a few other steps (``STEPS``) that reach the chain;
* views and answers, where ``site``, ``wsgi`` and ``asgi`` say so.

Who dies where is decided among all processes, through one small file under a lock: soon at a
point at which nobody has died yet, and else at one of those at which the fewest have; if none of
these is passed for a while, anywhere. Between deaths all processes together pass about
``CHAOS_EVERY`` points, so that a slow machine has no less to show than a fast one. ``CHAOS_DIR``
holds the file; without that variable nobody dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Final

#: Functions that name the commits made in them: module, attribute, name.
NAMES: Final = (
    ("x402_django.models.querysets", "PaymentQuerySet.claim", "claim"),
    ("x402_django.payments.machine", "annotate", "note on a payment"),
    ("x402_django.payments.machine", "take_over", "delivery taken over"),
    ("x402_django.chain.queue", "enqueue", "payments put into the queue"),
    ("x402_django.chain.queue", "take_lane", "lane taken"),
    ("x402_django.chain.queue", "leave_lane", "lane left"),
    ("x402_django.chain.queue", "withdraw", "payment taken out of the queue"),
    ("x402_django.chain.queue", "excuse", "payment left to its owner"),
    ("x402_django.chain.queue", "mark_missed", "payment missed by its transaction"),
    ("x402_django.chain.storing", "drop", "transaction dropped"),
    ("x402_django.chain.broadcast", "_note", "sending noted"),
    ("x402_django.chain.broadcast", "record", "receipt noted"),
    ("x402_django.chain.broadcast", "mark_lost", "transaction found to be lost"),
    ("x402_django.chain.broadcast", "_exchange", "earlier form counts"),
    ("x402_django.chain.upkeep", "_put_in_place", "fee raised"),
    ("x402_django.chain.upkeep", "_fill", "gap filled"),
    ("x402_django.payments.cursor", "Lease.acquire", "scanner's lease"),
    ("x402_django.payments.cursor", "Lease.keep", "scanner's lease kept"),
    ("x402_django.payments.cursor", "Lease.release", "scanner's lease released"),
    ("x402_django.payments.cursor", "Lease.move", "scanner's cursor"),
    ("x402_django.payments.cursor", "Lease.rewind", "scanner's cursor back"),
    ("x402_django.payments.maintenance", "purge_stored_responses", "stored responses emptied"),
)
#: Steps with a point before and one after them.
STEPS: Final = (
    ("x402_django.facilitators.local", "LocalFacilitator.verify", "verify"),
    ("x402_django.facilitators.local", "LocalFacilitator.settle_many", "settle"),
    ("x402_django.facilitators.journey", "Journey.conclude", "verdicts"),
    ("x402_django.payments.findings", "Findings.apply", "findings of a scan"),
    ("x402_django.payments.batches", "settle_batch", "batch in the background"),
)
STATE: Final = "crashes.json"
#: A file of this name says that nobody is to die any more.
CALM: Final = "calm"
#: Of ``CHAOS_EVERY``: the steps after a death before one at a point where nobody has died yet,
#: and after which one may be anywhere.
_EAGER: Final = 0.5
_PATIENT: Final = 3
#: How many views fail, of one.
_MISHAPS: Final = 0.04

_WRITES: Final = re.compile(r'(INSERT INTO|(?<!FOR )UPDATE|DELETE FROM) "?(\w+)"?')
_VERBS: Final = {"INSERT INTO": "new", "UPDATE": "changed", "DELETE FROM": "deleted"}

_commit = threading.local()


def install() -> None:
    """Wrap the shop's functions and its database connections.

    Raises AttributeError if one of the functions has another name by now.
    """
    if "CHAOS_DIR" not in os.environ:
        return
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.signals import connection_created

    for module, path, name in NAMES:
        _wrap(module, path, lambda function, name=name: _named(function, name))
    for module, path, name in STEPS:
        _wrap(module, path, lambda function, name=name: _deadly(function, lambda *_: name))
    _wrap("x402_django.payments.machine", "move", _transition)
    _wrap("x402_django.chain.outbox", "store", lambda f: _named(f, _of_draft))
    _wrap("x402_django.chain.broadcast", "hand_over", lambda f: _deadly(f, _of_row))
    connection_created.connect(_watch, dispatch_uid="chaos")
    BaseDatabaseWrapper.commit = _committed(BaseDatabaseWrapper.commit)  # type: ignore[method-assign]
    BaseDatabaseWrapper.rollback = _rolled_back(BaseDatabaseWrapper.rollback)  # type: ignore[method-assign]


def point(name: str) -> None:
    """A place where this process may end now, if it is its turn."""
    if _is_calm():
        return
    with (Path(os.environ["CHAOS_DIR"]) / STATE).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or '{"deaths": {}, "steps": 0}')
        deaths = state["deaths"]
        deaths.setdefault(name, 0)
        state["steps"] += 1
        dies = _is_due(deaths, name, state["steps"])
        if dies:
            deaths[name] += 1
            state["steps"] = 0
        file.truncate(0)
        file.write(json.dumps(state))
        file.flush()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


def mishap() -> bool:
    """Whether a view is to fail now; never when it is calm."""
    return not _is_calm() and random.random() < _MISHAPS


def deaths(directory: Path) -> dict[str, int]:
    """How many processes have died at each point that any has passed."""
    try:
        found: dict[str, int] = json.loads((directory / STATE).read_text())["deaths"]
    except FileNotFoundError:
        return {}
    return found


def _is_calm() -> bool:
    directory = os.environ.get("CHAOS_DIR")
    return directory is None or (Path(directory) / CALM).exists()


def _is_due(deaths: dict[str, int], name: str, steps: int) -> bool:
    patience = steps / float(os.environ["CHAOS_EVERY"])
    if not deaths[name]:
        return patience > _EAGER
    is_next = deaths[name] == min(deaths.values()) or patience > _PATIENT
    return patience > 1 and is_next and random.random() < 0.5


# ------------------------------------------------------------------------------------- commits


def _watch(connection: Any, **kwargs: Any) -> None:
    connection.execute_wrappers.append(_executed)


def _executed(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """A statement. Outside of a transaction it commits itself; inside, ``commit`` does."""
    connection = context["connection"]
    written = _tables(str(sql))
    if not written:
        return execute(sql, params, many, context)
    if connection.in_atomic_block or not connection.get_autocommit():
        result = execute(sql, params, many, context)
        connection.chaos_written = {**getattr(connection, "chaos_written", {}), written: None}
        return result
    name = _commit_name(written)
    point(f"before commit: {name}")
    result = execute(sql, params, many, context)
    point(f"after commit: {name}")
    return result


def _committed(commit: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(commit)
    def wrapped(connection: Any) -> None:
        written = getattr(connection, "chaos_written", {})
        connection.chaos_written = {}
        name = _commit_name(", ".join(written))
        if written:
            point(f"before commit: {name}")
        commit(connection)
        if written:
            point(f"after commit: {name}")

    return wrapped


def _rolled_back(rollback: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(rollback)
    def wrapped(connection: Any) -> None:
        connection.chaos_written = {}
        rollback(connection)

    return wrapped


def _tables(sql: str) -> str:
    """What a statement writes, for people: ``changed payment, new paymentevent``."""
    found = (
        f"{_VERBS[verb]} {table.removeprefix('x402_django_')}"
        for verb, table in _WRITES.findall(sql)
    )
    return ", ".join(dict.fromkeys(found))


def _commit_name(written: str) -> str:
    return getattr(_commit, "name", "") or written


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Commits of this thread are called so; the outermost name counts."""
    before = getattr(_commit, "name", "")
    _commit.name = before or name
    try:
        yield
    finally:
        _commit.name = before


# ------------------------------------------------------------------------------------ wrapping


def _wrap(module: str, path: str, wrapper: Callable[[Any], Any]) -> None:
    owner: Any = import_module(module)
    *classes, attribute = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    found = vars(owner).get(attribute)
    if isinstance(found, classmethod):
        setattr(owner, attribute, classmethod(wrapper(found.__func__)))
        return
    wrapped = wrapper(getattr(owner, attribute))
    setattr(owner, attribute, wrapped)
    for loaded in list(sys.modules.values()):  # who has imported it by its name already
        if not classes and vars(loaded).get(attribute) is found:
            setattr(loaded, attribute, wrapped)


def _named(function: Callable[..., Any], name: str | Callable[..., str]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _naming(name if isinstance(name, str) else name(*args)):
            return function(*args, **kwargs)

    return wrapped


def _deadly(function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        what = name(*args)
        point(f"before {what}")
        result = function(*args, **kwargs)
        point(f"after {what}")
        return result

    return wrapped


def _transition(move: Callable[..., Any]) -> Callable[..., Any]:
    return _named(move, lambda alias, payment, values, *_: f"{payment.state} → {values['state']}")


def _of_draft(draft: Any) -> str:
    return f"transaction of {_of_count(len(draft.passengers))} stored"


def _of_row(row: Any) -> str:
    return f"broadcast of {_of_count(row.payments_count)}"


def _of_count(payments: int) -> str:
    return {0: "no payment", 1: "one payment"}.get(payments, "a group")
