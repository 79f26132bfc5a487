"""Payments that a notice about the chain may concern, looked at before their turn.

What is found on chain is written as the periodic run would write it. A notice that is wrong, or
made up by somebody who has the secret, costs a look and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db import IntegrityError, router, transaction
from django.db.models import Q

from x402_django import clock
from x402_django.constants import SCHEME_BATCH, SCHEME_TRANSFER
from x402_django.exceptions import (
    InvalidTransition,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import ChainNotice, Payment
from x402_django.payments.confirmation import confirm_authorization
from x402_django.payments.entitlements import dead_since
from x402_django.payments.report import Report
from x402_django.payments.resolution import resolve
from x402_django.payments.transfer_confirmation import confirm_transfer

if TYPE_CHECKING:
    from x402_django.chain.notices import Named

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR: Final = "notice"

#: How long notices are remembered: longer than any is believed.
_KEPT: Final = timedelta(days=3)
#: Payments that are looked at for one notice.
_MOST: Final = 200


def remember(source: str, digest: str) -> bool:
    """Whether this notice is new; from now on it is not."""
    notices = ChainNotice.objects.using(router.db_for_write(ChainNotice))
    try:
        with transaction.atomic(using=notices.db):
            notices.create(source=source, digest=digest, received_at=clock.now())
    except IntegrityError:
        return False
    return True


def forget(source: str, digest: str) -> None:
    """Let the notice be new again: nothing came of it, and it will be sent again."""
    ChainNotice.objects.filter(source=source, digest=digest).delete()


def forget_old_notices() -> int:
    """Delete those that are too old to be believed again; returns how many."""
    return ChainNotice.objects.filter(received_at__lt=clock.now() - _KEPT).delete()[0]


def concerned(named: Sequence[Named]) -> list[int]:
    """Keys of open payments that the transactions may settle or have settled, oldest first.

    By the hash, if the ledger knows it; a payment of unknown outcome also by who paid whom.
    """
    hashes = {one.transaction for one in named}
    condition = (
        Q(transaction__in=hashes)
        | Q(chain_transactions__hash__in=hashes)
        | Q(chain_transactions__replaced__hash__in=hashes)
    )
    for one in named:
        if one.sender and one.recipient:
            parties = Q(payer=one.sender, pay_to=one.recipient)
            condition |= parties & Q(state=State.SETTLING, outcome_unknown_at__isnull=False)
    rows = Payment.objects.filter(
        condition, state__in=(State.SETTLING, State.SETTLED, State.REVERSED)
    ).exclude(scheme=SCHEME_BATCH, state=State.SETTLED)  # those wait for their claim
    return list(rows.order_by("pk").values_list("pk", flat=True).distinct()[:_MOST])


def look_at(payment_ids: Iterable[int]) -> Report:
    """Look on chain for these payments now. Safe to run many times over, and to kill."""
    report = Report()
    for payment in Payment.objects.filter(pk__in=list(payment_ids)).defer("response_body"):
        try:
            _look_at(payment, report)
        except SettlementFailed:
            report.failed += 1
        except (SettlementUnknown, InvalidTransition):
            report.still_unknown += 1
        except ServiceUnavailable:
            report.out_of_reach += 1
        except Exception:
            # One payment that cannot be judged must not keep the others from being judged.
            logger.exception("Payment %s could not be looked at.", payment.public_id)
            report.out_of_reach += 1
    return report


def _look_at(payment: Payment, report: Report) -> None:
    if payment.state == State.SETTLED:
        if payment.scheme == SCHEME_TRANSFER:
            confirm_transfer(payment, report)
        else:
            confirm_authorization(payment, report)
    elif payment.state == State.REVERSED or _is_left(payment):
        resolve(payment, actor=ACTOR)
        report.settled += 1


def _is_left(payment: Payment) -> bool:
    """Whether nobody waits for it: a settlement under way is its own worker's."""
    return payment.state == State.SETTLING and (
        payment.outcome_unknown_at is not None or payment.state_changed_at < dead_since()
    )
