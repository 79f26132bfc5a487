"""Querysets of the ledger, and the one INSERT that decides who owns a payment."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import IntegrityError, connections, models, router, transaction
from django.db.models import Q

from x402_django.models.in_flight import STATES as IN_FLIGHT_STATES
from x402_django.models.in_flight import Bounds
from x402_django.models.statements import IDENTITY, insert_unless_owed

if TYPE_CHECKING:
    from x402_django.models.ledger import Payment

#: Any number of payments at once.
NO_BOUNDS = Bounds()
#: Money that has moved, may have moved, or (after a reorganisation) moves again.
OWING_STATES = ("settling", "settled", "final", "reversed")


class PaymentQuerySet(models.QuerySet["Payment"]):
    """Questions the ledger is asked, by their names."""

    def sales(self) -> PaymentQuerySet:
        """What this site sold: its own income."""
        return self.filter(kind="sale")

    def for_others(self) -> PaymentQuerySet:
        """What the facilitator service settled for the holders of its API keys."""
        return self.filter(kind="service")

    def debts(self) -> PaymentQuerySet:
        """Settled and not delivered: owed to the payer."""
        return self.sales().filter(
            state__in=("settled", "final"), delivered_at__isnull=True, refunding_at__isnull=True
        )

    def owed_for(
        self, payer: str, fingerprint: str, *, settling_before: datetime
    ) -> PaymentQuerySet:
        """Earlier payments of ``payer`` for the same request that must be honoured first.

        Those settled and undelivered, also where a reorganisation has taken the transfer, those
        whose outcome is unknown, and those that have been settling since before
        ``settling_before`` (their process is taken for dead).
        """
        return (
            self.sales()
            .filter(
                payer=payer,
                request_fingerprint=fingerprint,
                state__in=OWING_STATES,
                delivered_at__isnull=True,
                refunding_at__isnull=True,
            )
            .exclude(
                Q(state="settling", outcome_unknown_at__isnull=True)
                & Q(state_changed_at__gte=settling_before)
            )
        )

    def opening(self, payer: str, fingerprint: str) -> PaymentQuerySet:
        """Paid ones by which ``payer`` may come back to the request for a while, newest first."""
        paid = self.sales().filter(state__in=("settled", "final"), settled_at__isnull=False)
        mine = paid.filter(payer=payer, request_fingerprint=fingerprint, session_access__gt=0)
        return mine.order_by("-settled_at")

    def unsettled(self, payer: str | None = None) -> PaymentQuerySet:
        """Delivered under the flow ``deferred`` and not settled: owed to the merchant."""
        owed = self.filter(flow="deferred", state__in=("verified", "settling", "reversed"))
        return owed if payer is None else owed.filter(payer=payer)

    def in_flight(self) -> PaymentQuerySet:
        """On their way: claimed, and neither settled nor let go nor delivered."""
        return self.sales().filter(state__in=IN_FLIGHT_STATES, delivered_at__isnull=True)

    def failed_by(self, payer: str, *, since: datetime) -> PaymentQuerySet:
        """Payments of ``payer`` whose settlement failed, or came too late, after ``since``."""
        failed = self.sales().filter(payer=payer, state__in=("failed", "expired"))
        return failed.filter(state_changed_at__gt=since)

    def claim(
        self,
        payment: Payment,
        *,
        settling_before: datetime,
        failed_since: datetime | None = None,
        bounds: Bounds = NO_BOUNDS,
        trailing: bool = False,
    ) -> bool:
        """Insert ``payment`` unless its authorization exists or the payer is owed this request.

        Nor if as many are in flight as ``bounds`` allow.

        One statement, committed at once: the unique constraint decides between two claims of
        one authorization, and a payer with an undelivered payment for the same request cannot
        make a second. The flow of a payer whose settlement failed after ``failed_since`` becomes
        ``upfront``. True when the row was inserted (``payment.pk`` is then set). Raises
        IntegrityError if another payment of the payer has its identifier.

        ``trailing`` does not wait for PostgreSQL's disk: the claim counts at once, and is on disk
        with whatever is committed next. Only a failure of the database server itself can lose it,
        and then everything that was to follow from it.
        """
        alias = router.db_for_write(self.model)
        connection = connections[alias]
        if connection.vendor in ("postgresql", "sqlite"):
            return insert_unless_owed(
                payment,
                connection,
                settling_before=settling_before,
                failed_since=failed_since,
                bounds=bounds,
                trailing=trailing,
            )
        owed = self.owed_for(
            payment.payer, payment.request_fingerprint, settling_before=settling_before
        )
        if owed.using(alias).exists() or bounds.are_reached(self.using(alias), payment.payer):
            return False
        if failed_since and self.using(alias).failed_by(payment.payer, since=failed_since).exists():
            payment.flow = "upfront"
        try:
            with transaction.atomic(using=alias):
                payment.save(force_insert=True, using=alias)
        except IntegrityError:
            if self.using(alias).filter(**identity(payment)).exists():
                return False
            raise
        return True


def identity(payment: Payment) -> dict[str, Any]:
    """The identity of ``payment`` as filter arguments."""
    return {name: getattr(payment, name) for name in IDENTITY}


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """Append-only rows: no bulk edits, no deletes."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{self.model.__name__} rows are append-only and cannot be updated.")

    def delete(self) -> NoReturn:
        raise TypeError(f"{self.model.__name__} rows are append-only and cannot be deleted.")
