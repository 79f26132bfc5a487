"""For whom and when a rule applies, judged for one request.

A rule without conditions costs nothing here. Of the others each condition looks only at what it
needs: the user is not loaded for a condition on the hour. What was looked at is remembered, so
that the answer can say what it varies on (threat 16).

A condition that cannot be judged is no reason to let somebody in: then there is no answer at all
(``PriceNotConfigured``, ``ServiceUnavailable``), neither yes nor no.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, Final

from django.db import Error as DatabaseTrouble
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from x402_django.conf import x402
from x402_django.exceptions import PriceNotConfigured, ServiceUnavailable

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.models import PriceRule

logger = logging.getLogger("x402_django.pricing")

_HASHED: Final = "sha256:"


class Asker:
    """Who asks, as conditions may ask about it. ``consulted`` are headers that answers vary on;
    ``is_timed`` says that they vary on the time of day, too.
    """

    def __init__(self, request: HttpRequest | None = None) -> None:
        self._request = request
        self.consulted: set[str] = set()
        self.is_timed = False
        self._groups: frozenset[int] | None = None

    def user(self) -> Any:
        """The user, None for one who is not logged in.

        Raises PriceNotConfigured where nothing says who it is.
        """
        if self._request is None:
            return None
        self.consulted |= {"Cookie", "Authorization"}
        try:
            user = self._request.user
            return user if user.is_authenticated else None
        except AttributeError:
            raise PriceNotConfigured(
                "A price rule asks who is logged in, and nothing says so. Put "
                "AuthenticationMiddleware into MIDDLEWARE, before the payment gate."
            ) from None

    def groups(self) -> frozenset[int]:
        """The keys of the user's groups, asked once."""
        user = self.user()
        if user is None:
            return frozenset()
        if self._groups is None:
            self._groups = frozenset(user.groups.values_list("pk", flat=True))
        return self._groups

    def header(self, name: str) -> str | None:
        """A header's value; None if it was not sent."""
        self.consulted.add(name)
        return None if self._request is None else self._request.headers.get(name)


#: Asks without being anybody: what catalogues show is what such a one would pay.
NOBODY: Final = Asker()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition, in words, and whether it holds."""

    words: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a rule; every one that is given must hold."""

    audience: str = ""
    groups: frozenset[int] = frozenset()
    permission: str = ""
    header_name: str = ""
    header_values: tuple[str, ...] = ()
    countries: frozenset[str] = frozenset()
    hours: tuple[time, time] | None = None
    weekdays: frozenset[int] = field(default_factory=frozenset)

    def hold(self, asker: Asker, moment: datetime) -> bool:
        """Whether all of them hold. The cheap ones are asked first.

        Raises PriceNotConfigured, ServiceUnavailable where that cannot be found out.
        """
        try:
            return all(judge() for _words, judge in self._judges(asker, moment))
        except DatabaseTrouble as trouble:
            logger.exception("The conditions of a price rule cannot be judged.")
            raise ServiceUnavailable() from trouble

    def verdicts(self, asker: Asker, moment: datetime) -> list[Verdict]:
        """Each of them with whether it holds. Raises as ``hold``, for a person to be told."""
        try:
            return [Verdict(words, judge()) for words, judge in self._judges(asker, moment)]
        except DatabaseTrouble as trouble:
            logger.exception("The conditions of a price rule cannot be judged.")
            raise ServiceUnavailable() from trouble

    def _judges(self, asker: Asker, moment: datetime) -> Iterator[tuple[str, Callable[[], bool]]]:
        if self.weekdays or self.hours:
            asker.is_timed = True
            yield _("within its hours"), lambda: self._is_open(timezone.localtime(moment))
        if self.countries:
            name = x402.country_header
            if not name:
                raise PriceNotConfigured(
                    "A price rule asks for the country, and X402['COUNTRY_HEADER'] does not say "
                    "which header of your proxy's tells it."
                )
            said = _("from one of its countries")
            yield said, lambda: (asker.header(name) or "").strip().upper() in self.countries
        if self.header_name:
            said = _("the header %(name)s fits") % {"name": self.header_name}
            yield said, lambda: self._has_header(asker.header(self.header_name))
        if self.audience:
            yield _("asked by whom it is for"), lambda: self._is_audience(asker.user())
        if self.groups:
            yield _("a member of its groups"), lambda: bool(self.groups & asker.groups())
        if self.permission:
            yield (
                _("has the permission %(name)s") % {"name": self.permission},
                lambda: self._may(asker.user()),
            )

    def _is_open(self, local: datetime) -> bool:
        day = local.weekday()
        if self.hours is None:
            return day in self.weekdays
        begin, end = self.hours
        now = local.time()
        if begin < end:
            within = begin <= now < end
        else:
            within = now >= begin or now < end
            if now < end:
                day = (day - 1) % 7  # of the evening on which it began
        return within and (not self.weekdays or day in self.weekdays)

    def _has_header(self, value: str | None) -> bool:
        if value is None:
            return False
        if not self.header_values:
            return True
        digest = hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
        found = False
        for wanted in self.header_values:  # all of them, so that the time tells nothing
            given = digest if wanted.startswith(_HASHED) else value
            found |= constant_time_compare(given, wanted.removeprefix(_HASHED))
        return found

    def _is_audience(self, user: Any) -> bool:
        if self.audience == "anonymous":
            return user is None
        return user is not None and (self.audience != "staff" or bool(user.is_staff))

    def _may(self, user: Any) -> bool:
        return user is not None and bool(user.has_perm(self.permission))


def compile_conditions(rule: PriceRule) -> Conditions | None:
    """The conditions of a row; None where it has none."""
    found = Conditions(
        audience=rule.audience,
        groups=frozenset(int(one) for one in rule.groups or ()),
        permission=rule.permission,
        header_name=rule.header_name,
        header_values=tuple(rule.header_values or ()),
        countries=frozenset(rule.countries or ()),
        hours=None
        if rule.hours_from is None or rule.hours_until is None
        else (rule.hours_from, rule.hours_until),
        weekdays=frozenset(rule.weekdays or ()),
    )
    return None if found == Conditions() else found
