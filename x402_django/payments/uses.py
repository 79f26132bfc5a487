"""One request let in by a pass with a number of uses, or paid out of credits.

A use is taken before the view runs, durably, by a conditional UPDATE that no number of requests
at once gets past (threat 7). After the view it is charged, for what it came to, together with the
response that is kept; or it is given back, because the view failed. A process that dies in
between leaves it ``held``, and the maintenance task gives it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, router, transaction
from django.db.models import F, Q

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.exceptions import InvalidTransition, PaymentConflict, PaymentRefused
from x402_django.models import CreditAccount, CreditEntry, HoldingUse, Pass
from x402_django.payments.delivery import stored_fields
from x402_django.payments.facts import RequestFacts
from x402_django.pricing import Quote
from x402_django.pricing.grants import credit_units

State = HoldingUse.State


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of taking a use: ``use``, and whether it is an earlier one of the same key."""

    use: HoldingUse
    is_earlier: bool = False


def take_of_pass(held: Pass, quote: Quote, facts: RequestFacts) -> Taken | None:
    """Take one use of ``held`` for the request; None if none is left (or it is over).

    Raises as ``_take``.
    """
    left = Q(uses__isnull=True) | Q(uses_taken__lt=F("uses"))
    alive = Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now())
    rows = Pass.objects.filter(left, alive, pk=held.pk, revoked_at__isnull=True)

    def take(use: HoldingUse, alias: str) -> bool:
        if not rows.using(alias).update(uses_taken=F("uses_taken") + 1):
            return False
        use.save(using=alias, force_insert=True)
        return True

    return _take(HoldingUse(sold_pass=held, **_of_request(quote, facts)), take)


def take_of_credits(account: CreditAccount, quote: Quote, facts: RequestFacts) -> Taken | None:
    """Take the price of ``quote`` out of ``account``; None if there is not as much in it.

    Where the view charges by use, the price is the most that it may charge. Raises as ``_take``.
    """
    if quote.price_usd is None:
        return None
    amount = credit_units(quote.price_usd)

    def take(use: HoldingUse, alias: str) -> bool:
        if not _add(account, -amount, alias, at_least=amount):
            return False
        use.save(using=alias, force_insert=True)
        _enter(use, CreditEntry.Kind.SPENT, -amount, alias)
        return True

    use = HoldingUse(
        account=account,
        held=amount,
        unit_price_usd=quote.unit_price_usd,
        **_of_request(quote, facts),
    )
    return _take(use, take)


def charge(use: HoldingUse, response: Any) -> None:
    """The view has answered well: charge what it came to, and keep the response.

    Raises InvalidTransition if the use was given back meanwhile: the view ran longer than
    ``X402["CLAIM_TIMEOUT"]``, and what it made must not leave.
    """
    due = use.due
    kept = {name: value for name, value in stored_fields(response).items() if name in _KEPT}
    with transaction.atomic(using=router.db_for_write(HoldingUse), durable=True):
        _end(use, State.CHARGED, charged=due, **kept)
        _give(use, use.held - due)


def give_back(use: HoldingUse) -> bool:
    """The view has failed, or its process has died: the use is the holder's again.

    False: it has ended already.
    """
    alias = router.db_for_write(HoldingUse)
    try:
        with transaction.atomic(using=alias, durable=True):
            # Its key may be used again: nothing was bought by it.
            _end(use, State.RETURNED, charged=0, idempotency_key=None)
            if use.sold_pass is None:
                _give(use, use.held)
            else:
                Pass.objects.using(alias).filter(pk=use.sold_pass.pk).update(
                    uses_taken=F("uses_taken") - 1
                )
    except InvalidTransition:
        return False
    return True


def give_back_stale(*, limit: int = 1000) -> int:
    """Give back what processes held that have died; returns how many."""
    deadline = clock.now() - timedelta(seconds=x402.claim_timeout)
    stale = HoldingUse.objects.filter(state=State.HELD, started_at__lt=deadline)
    return sum(give_back(use) for use in stale.order_by("started_at")[:limit])


def empty_stored_responses(*, limit: int = 1000) -> int:
    """Empty stored responses past ``X402["RESPONSE_STORE_TTL"]``; returns how many."""
    expired = HoldingUse.objects.filter(response_expires_at__lt=clock.now())
    keys = list(expired.order_by("response_expires_at").values_list("pk", flat=True)[:limit])
    return HoldingUse.objects.filter(pk__in=keys).update(**dict.fromkeys(_KEPT))


#: The columns that keep a response.
_KEPT = ("response_status", "response_headers", "response_body", "response_expires_at")


def _of_request(quote: Quote, facts: RequestFacts) -> dict[str, Any]:
    return {
        "merchant_id": quote.merchant_id,
        "rule_id": quote.rule_id,
        "rule_name": quote.rule_name,
        "request_method": facts.method[:16],
        "request_fingerprint": facts.fingerprint,
        "resource_url": facts.resource_url,
        "idempotency_key": facts.identifier,
        "started_at": clock.now(),
    }


def _take(use: HoldingUse, take: Callable[[HoldingUse, str], bool]) -> Taken | None:
    """Run ``take`` in a transaction of its own, unless the key of ``use`` has been used.

    Raises PaymentConflict for a key that named another request, and PaymentRefused for one whose
    response is not kept any more.
    """
    alias = router.db_for_write(HoldingUse)
    earlier = _same_key(use)
    if earlier is not None:
        return Taken(_checked(earlier, use), is_earlier=True)
    try:
        with transaction.atomic(using=alias, durable=True):
            return Taken(use) if take(use, alias) else None
    except IntegrityError:
        earlier = _same_key(use)
        if earlier is None:
            raise
        return Taken(_checked(earlier, use), is_earlier=True)


def _same_key(use: HoldingUse) -> HoldingUse | None:
    if use.idempotency_key is None:
        return None
    return HoldingUse.objects.filter(
        idempotency_key=use.idempotency_key,
        account_id=use.account_id,
        sold_pass_id=use.sold_pass_id,
    ).first()


def _checked(earlier: HoldingUse, presented: HoldingUse) -> HoldingUse:
    if earlier.request_fingerprint != presented.request_fingerprint:
        raise PaymentConflict(
            "This identifier named another request. Choose a new one for each purchase.",
            code=Code.IDENTIFIER_USED,
        )
    if earlier.state == State.CHARGED and earlier.response_body is None:
        raise PaymentRefused(
            "What was bought under this identifier was delivered, and is not kept any more.",
            code=Code.ALREADY_USED,
        )
    return earlier


def _end(use: HoldingUse, state: str, **fields: Any) -> None:
    """Move ``use`` on from ``held``. Raises InvalidTransition if somebody else has."""
    alias = router.db_for_write(HoldingUse)
    values = {"state": state, "ended_at": clock.now(), **fields}
    held = HoldingUse.objects.using(alias).filter(pk=use.pk, state=State.HELD)
    if not held.update(**values):
        raise InvalidTransition(f"Use {use.public_id} has ended already.")
    for name, value in values.items():
        setattr(use, name, value)


def _give(use: HoldingUse, amount: int) -> None:
    alias = router.db_for_write(HoldingUse)
    if amount and use.account is not None:
        _add(use.account, amount, alias)
        _enter(use, CreditEntry.Kind.RETURNED, amount, alias)


def _add(account: CreditAccount, amount: int, alias: str, *, at_least: int = 0) -> bool:
    """Change the balance, if it is at least so much; takes the row's lock until the commit."""
    rows = CreditAccount.objects.using(alias).filter(pk=account.pk, balance__gte=at_least)
    return bool(rows.update(balance=F("balance") + amount))


def _enter(use: HoldingUse, kind: str, amount: int, alias: str) -> None:
    """Write why the balance is what it is now; in the transaction that changed it."""
    account = use.account
    if account is None:
        return
    account.refresh_from_db(using=alias, fields=["balance"])
    if amount:
        CreditEntry.objects.using(alias).create(
            account=account,
            at=clock.now(),
            kind=kind,
            amount=amount,
            balance=account.balance,
            use=use,
        )
