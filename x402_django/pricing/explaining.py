"""Which price applies to a request, and why: the answer of the real code, with its reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from x402_django.exceptions import ServiceUnavailable
from x402_django.pricing.conditions import Asker, Verdict
from x402_django.pricing.rules import CompiledRule, RuleSet


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule on the page, each of its conditions judged, and whether it is the one that applies."""

    rule: CompiledRule
    verdicts: tuple[Verdict, ...]
    is_chosen: bool

    @property
    def applies(self) -> bool:
        """Whether everything holds; of several that do, the first is chosen."""
        return all(one.holds for one in self.verdicts)


def explain(
    rules: RuleSet,
    *,
    key: str | None,
    url_name: str | None,
    method: str,
    moment: datetime,
    asker: Asker,
) -> list[Candidate]:
    """The rules on a page in the order in which they are looked at.

    The one chosen is the one that ``RuleSet.find`` finds; it is asked, so that both cannot differ.
    Raises as ``Conditions.hold``.
    """
    found = rules.find(key=key, url_name=url_name, method=method, at=moment, asker=asker)
    return [
        Candidate(rule, _told(rule, method, moment, asker), rule is found)
        for rule in rules.candidates(key=key, url_name=url_name)
    ]


def _told(rule: CompiledRule, method: str, moment: datetime, asker: Asker) -> tuple[Verdict, ...]:
    """The verdicts; of a rule that nobody had to ask, also that it cannot be judged."""
    try:
        return tuple(_verdicts(rule, method, moment, asker))
    except ServiceUnavailable as error:
        return (Verdict(str(error), holds=False),)


def _verdicts(rule: CompiledRule, method: str, moment: datetime, asker: Asker) -> Iterator[Verdict]:
    if rule.methods:
        yield Verdict(_("for %(method)s") % {"method": method}, rule.takes(method))
    if rule.valid_from is not None or rule.valid_until is not None:
        yield Verdict(_("between its dates"), rule.is_valid_at(moment))
    if rule.conditions is not None:
        yield from rule.conditions.verdicts(asker, moment)
