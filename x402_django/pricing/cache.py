"""The compiled rules of this process.

They are read again once they are older than ``X402["RULES_MAX_AGE"]`` seconds, by whichever
request comes first (four small queries per process and period; no other challenge queries
anything). An edit in this process drops them at once. Nothing is shared through a cache server,
so there is nothing to configure and nothing to fall out of step.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.core.signals import setting_changed
from django.db import Error as DatabaseTrouble
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from x402_django.conf import x402
from x402_django.exceptions import ServiceUnavailable
from x402_django.pricing.rules import RuleSet, load_rules

logger = logging.getLogger("x402_django.pricing")

_lock = threading.Lock()
_current: RuleSet | None = None
_generation = 0


def fresh_rules() -> RuleSet | None:
    """The rules if they are in memory and young enough: never a query. Otherwise None."""
    rules = _current
    if rules is not None and time.monotonic() - rules.loaded_at <= x402.rules_max_age:
        return rules
    return None


def current_rules() -> RuleSet:
    """The rules in force, read from the database when they are too old.

    Raises ServiceUnavailable when they were never read and the database does not answer. If it
    stops answering later the last known rules stay in force: prices do not fall to zero because
    a database is down, and free pages stay free.
    """
    rules = fresh_rules()
    return rules if rules is not None else _reload()


def _reload() -> RuleSet:
    global _current
    with _lock:
        rules = fresh_rules()
        if rules is not None:
            return rules
        generation = _generation
        started = time.monotonic()
        try:
            rules = load_rules(loaded_at=started)
        except DatabaseTrouble:
            logger.exception("The price rules could not be read.")
            last_known = _current
            if last_known is None:
                raise ServiceUnavailable() from None
            return last_known
        if generation == _generation:  # nothing was edited while we read
            _current = rules
        return rules


def forget_rules() -> None:
    """Make the next request read the rules anew."""
    global _current, _generation
    _generation += 1
    _current = None


def _forget_on_commit(using: str | None) -> None:
    # Forget twice: at once for this transaction's own readers, and after commit, for a reader
    # that loaded the old rows in between.
    forget_rules()
    transaction.on_commit(forget_rules, using=using)


def connect_receivers() -> None:
    """Called once from ``AppConfig.ready``."""
    from x402_django.models import MerchantPage, PaymentMethod, PriceRule

    for model in (MerchantPage, PaymentMethod, PriceRule):
        for signal in (post_save, post_delete):
            signal.connect(_edited, sender=model, dispatch_uid=f"x402.{model.__name__}")
    m2m_changed.connect(
        _edited, sender=PriceRule.payment_methods.through, dispatch_uid="x402.rule_methods"
    )
    setting_changed.connect(_setting_changed, dispatch_uid="x402.rules_setting")


def _edited(*, using: str | None = None, **kwargs: Any) -> None:
    _forget_on_commit(using)


def _setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("X402", "ROOT_URLCONF"):
        forget_rules()
