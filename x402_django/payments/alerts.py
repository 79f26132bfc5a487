"""E-mail when something needs somebody: once, again after a day, and when it is well again.

What is looked at is what ``health`` looks at, and besides: settlements that fail, facilitators out
of reach, reorganisations, refunds that cannot be sent. A mail server that is down hurts nothing:
it is told with the next run.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.core.mail import send_mail
from django.db import IntegrityError
from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.models import Alert, Payment, PaymentEvent, Refund
from x402_django.payments.health import Finding, findings
from x402_django.payments.periodic import recorded

logger = logging.getLogger("x402_django.payments")

State = Payment.State

#: How far back settlements are looked at.
_LATELY: Final = timedelta(hours=1)
#: So many settlements that fail in that time are worth a mail, if they are a fifth of all.
_FAILURES: Final = 5
_SHARE: Final = 5
#: So many payments that were let go because nobody could be reached.
_UNREACHED: Final = 3
#: For how long a reorganisation is spoken of, and a refund may be hindered.
_DAY: Final = timedelta(days=1)


@dataclass(slots=True)
class Report:
    """What one run did, counted in mails."""

    told: int = 0
    well: int = 0
    unsent: int = 0

    def __str__(self) -> str:
        return f"told: {self.told}, well again: {self.well}, not sent: {self.unsent}"


@recorded("send_alerts")
def send_alerts() -> Report:
    """Look at everything, and tell what is news. Does nothing without recipients."""
    report = Report()
    recipients = x402.alert_recipients
    if not recipients:
        return report
    for finding in [*findings(), *_more()]:
        if finding.is_well:
            _close(finding.name, recipients, report)
        else:
            _open(finding, recipients, report)
    return report


def _more() -> list[Finding]:
    return [_settlements(), _facilitators(), _reorganisations(), _refunds()]


def _events(*states: str, since: datetime) -> QuerySet[PaymentEvent]:
    """Transitions of sales lately; by their index on the time, however long the ledger is."""
    return PaymentEvent.objects.filter(
        at__gte=since, to_state__in=states, payment__kind=Payment.Kind.SALE
    ).order_by()


def _settlements() -> Finding:
    ended = _events(State.FAILED, State.EXPIRED, State.SETTLED, since=clock.now() - _LATELY)
    counts = ended.aggregate(
        failed=Count("pk", filter=~Q(to_state=State.SETTLED)),
        settled=Count("pk", filter=Q(to_state=State.SETTLED)),
    )
    failed, settled = counts["failed"], counts["settled"]
    if failed < _FAILURES or failed * _SHARE < failed + settled:
        return Finding("settlements")
    return Finding(
        "settlements",
        _(
            "%(failed)d settlements have failed in the last hour, and %(settled)d have succeeded. "
            "See the failures of the payments in the admin, and the facilitator's log."
        )
        % {"failed": failed, "settled": settled},
    )


def _facilitators() -> Finding:
    let_go = _events(State.RELEASED, since=clock.now() - _LATELY).filter(code=Code.UNAVAILABLE)
    counts = let_go.values("payment__facilitator").annotate(payments=Count("pk"))
    down = [
        row["payment__facilitator"]
        for row in counts
        if row["payments"] >= _UNREACHED and not _settles(row["payment__facilitator"])
    ]
    if not down:
        return Finding("facilitators")
    return Finding(
        "facilitators",
        _(
            "%(names)s could not be reached lately, and buyers were sent away. See "
            "manage.py x402_facilitators; name another one to fall back to."
        )
        % {"names": ", ".join(sorted(down))},
    )


def _settles(facilitator: str) -> bool:
    """Whether it has settled anything in the last minutes."""
    settled = _events(State.SETTLED, since=clock.now() - timedelta(minutes=10))
    return settled.filter(payment__facilitator=facilitator).exists()


def _reorganisations() -> Finding:
    undone = Payment.objects.sales().filter(
        state=State.REVERSED, state_changed_at__gte=clock.now() - _DAY
    )
    count = undone.order_by().count()
    if not count:
        return Finding("reorganisations")
    return Finding(
        "reorganisations",
        _(
            "%(count)d payments that were settled are no longer on the chain. They are settled "
            "again while their authorizations live; what was delivered for them may be lost. "
            "Raise CONFIRMATIONS for large payments if this happens again."
        )
        % {"count": count},
    )


def _refunds() -> Finding:
    stuck = Refund.objects.filter(
        state=Refund.State.APPROVED, state_changed_at__lt=clock.now() - _LATELY
    ).exclude(hindrance="")
    count = stuck.order_by().count()
    if not count:
        return Finding("refunds")
    return Finding(
        "refunds",
        _("%(count)d refunds cannot be sent; the page of each says what is in the way.")
        % {"count": count},
    )


def _open(finding: Finding, recipients: Sequence[str], report: Report) -> None:
    now = clock.now()
    try:
        alert, _created = Alert.objects.get_or_create(
            name=finding.name,
            closed_at=None,
            defaults={"sentence": finding.sentence, "opened_at": now},
        )
    except IntegrityError:
        return  # another worker has it
    before = alert.told_at
    due = Alert.objects.filter(pk=alert.pk, closed_at__isnull=True, told_at=before)
    if before is not None and before > now - x402.alert_repeat:
        return
    if not due.update(told_at=now, sentence=finding.sentence):
        return
    subject = _("Payments need somebody: %(name)s") % {"name": finding.name}
    if _send(subject, finding.sentence, recipients):
        report.told += 1
    else:
        Alert.objects.filter(pk=alert.pk, told_at=now).update(told_at=before)
        report.unsent += 1


def _close(name: str, recipients: Sequence[str], report: Report) -> None:
    for alert in Alert.objects.filter(name=name, closed_at__isnull=True):
        rows = Alert.objects.filter(pk=alert.pk, closed_at__isnull=True)
        if not rows.update(closed_at=clock.now()):
            continue
        if alert.told_at is None:
            continue  # nobody knows of it
        subject = _("Well again: %(name)s") % {"name": name}
        text = _("This was said, and is so no longer:\n\n%(sentence)s") % {
            "sentence": alert.sentence
        }
        if _send(subject, text, recipients):
            report.well += 1
        else:
            Alert.objects.filter(pk=alert.pk).update(closed_at=None)
            report.unsent += 1


def _send(subject: str, text: str, recipients: Sequence[str]) -> bool:
    """Whether the mail was handed over. What goes wrong is logged, and hurts nothing."""
    site = x402.base_url or ""
    prefix = f"[{site.partition('://')[2]}] " if site else ""
    try:
        send_mail(f"{prefix}{subject}", text, None, list(recipients))
    except (OSError, smtplib.SMTPException, ValueError):
        logger.exception("The alert “%s” could not be sent.", subject)
        return False
    return True
