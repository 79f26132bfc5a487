"""One thing that is wrong, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

logger = logging.getLogger("x402_django")


@dataclass(frozen=True, slots=True)
class Symptom:
    """``name`` is stable, for machines; ``what`` and ``remedy`` are sentences for the operator."""

    name: str
    what: str
    remedy: str


#: Looks at one thing, and tells what is wrong with it.
Probe = Callable[[], Iterator[Symptom]]


def look(name: str, probe: Probe) -> list[Symptom]:
    """What ``probe`` finds; that it broke off is a symptom, too."""
    found: list[Symptom] = []
    try:
        found.extend(probe())
    except Exception as error:
        logger.exception("The doctor could not look at %s.", name)
        found.append(
            Symptom(
                f"{name}_unknown",
                f"This could not be looked at ({type(error).__name__}).",
                "Read the log of x402_django: what broke is written there.",
            )
        )
    return found
