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
from x402_django.facilitators.base import Kind, build_facilitator
from x402_django.models import PaymentMethod


class Command(BaseCommand):
    help = (
        "Ask every facilitator whether it is there and settles what it is meant for: the networks "
        "of the settings, and the schemes of active payment methods. "
        "The exit status is 1 if one is not or does not."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = _wanted()
        troubled = [alias for alias in x402.facilitators if not self._look_at(alias, wanted)]
        if troubled:
            raise CommandError(f"Not in order: {', '.join(troubled)}.")

    def _look_at(self, alias: str, wanted: dict[str, list[Kind]]) -> bool:
        try:
            facilitator = build_facilitator(alias)  # a new one: it has no old answer
            kinds = facilitator.supported()
        except FacilitatorUnavailable:
            self.stdout.write(f"{alias}: {self.style.ERROR('does not answer')}")
            return False
        except ConfigurationError as error:
            self.stdout.write(f"{alias}: {self.style.ERROR(str(error))}")
            return False
        missing = [_label(kind) for kind in wanted[alias] if kind not in kinds]
        found = [name for name in x402.networks if (SCHEME_EXACT, name) in kinds]
        text = f"settles on {', '.join(found)}" if found else "settles on none of your networks"
        self.stdout.write(f"{alias}: {text}")
        if missing:
            self.stdout.write(self.style.ERROR(f"  not on {', '.join(missing)}"))
        return not missing


def _wanted() -> dict[str, list[Kind]]:
    """What each facilitator is meant for: by the settings, and by active payment methods."""
    meant = [(network.facilitator, SCHEME_EXACT, name) for name, network in x402.networks.items()]
    methods = PaymentMethod.objects.filter(active=True).order_by("network", "scheme")
    meant += methods.values_list("facilitator", "scheme", "network")
    wanted: dict[str, list[Kind]] = {alias: [] for alias in x402.facilitators}
    for alias, scheme, network in dict.fromkeys(meant):
        if alias in wanted:
            wanted[alias].append((scheme, network))
    return wanted


def _label(kind: Kind) -> str:
    scheme, network = kind
    return network if scheme == SCHEME_EXACT else f"{network} by the scheme '{scheme}'"
