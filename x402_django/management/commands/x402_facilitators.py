"""``manage.py x402_facilitators``: ask every facilitator what it supports, now.

For after a change of settings, and for monitoring. A site does not ask before it starts: that a
service is down is no reason to be down too.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from x402_django.conf import x402
from x402_django.constants import SCHEME_EXACT
from x402_django.exceptions import ConfigurationError, FacilitatorUnavailable
from x402_django.facilitators.base import build_facilitator


class Command(BaseCommand):
    help = (
        "Ask every facilitator whether it is there and settles on the networks it is meant for. "
        "The exit status is 1 if one is not or does not."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = _wanted()
        troubled = [alias for alias in x402.facilitators if not self._look_at(alias, wanted)]
        if troubled:
            raise CommandError(f"Not in order: {', '.join(troubled)}.")

    def _look_at(self, alias: str, wanted: dict[str, list[str]]) -> bool:
        try:
            facilitator = build_facilitator(alias)  # a new one: it has no old answer
            kinds = facilitator.supported()
        except FacilitatorUnavailable:
            self.stdout.write(f"{alias}: {self.style.ERROR('does not answer')}")
            return False
        except ConfigurationError as error:
            self.stdout.write(f"{alias}: {self.style.ERROR(str(error))}")
            return False
        missing = [name for name in wanted[alias] if (SCHEME_EXACT, name) not in kinds]
        found = [name for name in x402.networks if (SCHEME_EXACT, name) in kinds]
        text = f"settles on {', '.join(found)}" if found else "settles on none of your networks"
        self.stdout.write(f"{alias}: {text}")
        if missing:
            self.stdout.write(self.style.ERROR(f"  not on {', '.join(missing)}"))
        return not missing


def _wanted() -> dict[str, list[str]]:
    """The networks that each facilitator is meant for by the settings."""
    wanted: dict[str, list[str]] = {alias: [] for alias in x402.facilitators}
    for name, network in x402.networks.items():
        if network.facilitator in wanted:
            wanted[network.facilitator].append(name)
    return wanted
