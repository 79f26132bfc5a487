"""The rows of the ledger: payments, their events and receipts, and how they were settled."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Final

from demo_project.seed.fates import TIMED_OUT, Fate, past
from demo_project.seed.market import LIFETIME, PAY_TO, Market, Page, Terms, Ware
from demo_project.seed.moments import stamp
from demo_project.seed.outbox import ITEM, OWN, REPLACED, TRANSACTION, Outbox, Place
from x402_django.constants import DEFAULT_MERCHANT, FLOW_DEFERRED, FLOW_UPFRONT
from x402_django.models import (
    ChainTransaction,
    ChainTransactionItem,
    Payment,
    PaymentEvent,
    Receipt,
    ReplacedTransaction,
)

PAYMENT: Final = (
    "id", "public_id", "state", "state_changed_at", "outcome_unknown_at", "scheme", "network",
    "asset", "verifying_contract", "payer", "nonce", "pay_to", "amount", "asset_symbol",
    "asset_decimals", "valid_before", "price_usd", "x402_version", "flow", "facilitator",
    "requirements", "payload", "merchant_id", "method_id", "rule_id", "rule_name",
    "request_fingerprint", "request_method", "resource_url", "description", "transaction",
    "block_number", "block_hash",
    "log_index", "failure_code", "created_at", "settled_at", "delivered_at", "superseded_by_id",
    "response_status", "response_headers", "response_body", "response_expires_at",
)  # fmt: skip
EVENT: Final = ("payment_id", "at", "from_state", "to_state", "code", "reason", "actor")
RECEIPT: Final = (
    "reference", "payment_id", "merchant_id", "issued_at", "network", "asset", "asset_symbol",
    "asset_decimals", "amount", "price_usd", "payer", "pay_to", "transaction",
    "resource_url", "description",
)  # fmt: skip
#: What is filled, in an order in which every row comes after those it refers to.
TABLES: Final = {
    Payment: PAYMENT,
    PaymentEvent: EVENT,
    Receipt: RECEIPT,
    ChainTransaction: TRANSACTION,
    ChainTransactionItem: ITEM,
    ReplacedTransaction: REPLACED,
}

#: Seconds for which a response is kept, and for which the site settled through a service.
_KEPT: Final = 600
_OWN_SINCE: Final = timedelta(days=365).total_seconds()
#: The service's alias; ``x402_django`` asks it for nothing that is settled.
_SERVICE: Final = "cdp"
_DEPTH: Final = 24
_HEADERS: Final = json.dumps([["Content-Type", "application/json"]])


@dataclass(slots=True)
class Purchase:
    """One payment on its way into the books. Times are seconds since the epoch."""

    pk: int
    fate: Fate
    created: float
    verified: float
    settling: float
    terms: Terms
    page: Page
    settled: float = 0.0
    place: Place | None = None
    position: int = 0
    earlier: int | None = None

    @property
    def was_settled(self) -> bool:
        """Whether its money has arrived, be it that it was reversed later."""
        return self.settled > 0


class Books:
    """Collects rows, by model, until they are taken."""

    def __init__(
        self, market: Market, rng: Random, now: float, *, first_payment: int, first_transaction: int
    ) -> None:
        self.rows: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
        self.outbox = Outbox(rng, first_transaction, self.rows)
        self._market = market
        self._rng = rng
        self._now = now
        self._pk = first_payment

    def buy(self, start: float, count: int) -> None:
        """A burst: one payer who buys one ware, ``count`` times."""
        ware = self._market.ware()
        self._record(ware, start, past(self._rng, count))

    def begin(self, fate: Fate, created: float) -> None:
        """A payment that is still under way."""
        self._record(self._market.ware(fate.flow), created, [fate])

    def take(self) -> dict[Any, list[tuple[Any, ...]]]:
        """The rows so far; forgotten here."""
        taken = {model: self.rows[model] for model in TABLES}
        for model in TABLES:
            self.rows[model] = []
        return taken

    # ----------------------------------------------------------------- a burst

    def _record(self, ware: Ware, start: float, fates: list[Fate]) -> None:
        method = self._market.method(ware)
        is_deferred = ware.flow == FLOW_DEFERRED
        at_once = not is_deferred and len(fates) > 1 and self._rng.random() < 0.3
        own = start > self._now - _OWN_SINCE
        purchases = list(self._purchases(ware, start, fates, method, at_once=at_once))
        if is_deferred:
            batch = purchases[-1].verified + self._rng.uniform(0.5, 10)
            for one in purchases:
                one.settling = batch
        for group in _groups(purchases, together=is_deferred or at_once):
            self._settle(group, own=own)
        payer = self._market.payer()
        version = 2 if self._rng.random() < 0.9 else 1
        facilitator = OWN if own else _SERVICE
        for one in purchases:
            self._write(one, ware, payer, facilitator, version)

    def _purchases(
        self, ware: Ware, start: float, fates: list[Fate], method: Any, *, at_once: bool
    ) -> Iterator[Purchase]:
        rng = self._rng
        created = start
        served: int | None = None
        for fate in fates:
            self._pk += 1
            ran = created + rng.uniform(0.02, 0.6)
            is_served = fate.earlier and served is not None
            yield Purchase(
                pk=self._pk,
                fate=_under(ware, TIMED_OUT if fate.earlier and not is_served else fate),
                created=created,
                verified=ran,
                settling=created + 0.02 if ware.flow == FLOW_UPFRONT else ran,
                terms=self._market.terms(ware, method),
                page=self._market.page(ware),
                earlier=served if is_served else None,
            )
            if "settled" in fate.states:
                served = self._pk
            created += rng.uniform(0, 0.05) if at_once else rng.expovariate(0.8)

    def _settle(self, group: list[Purchase], *, own: bool) -> None:
        """Put what was settled into one transaction, and what failed into one that reverted."""
        arrived = [one for one in group if "settled" in one.fate.states]
        failed = [one for one in group if one.fate.state == "failed"]
        under_way = [one for one in group if one.fate.state == "settling"]
        network = group[0].terms.network
        sent = group[-1].settling
        if arrived:
            keys = [one.pk for one in arrived]
            send = self.outbox.send
            place = send(network, keys, sent, "mined") if own else self.outbox.place(network, sent)
            for position, one in enumerate(arrived):
                one.place, one.position = place, position
                one.settled = place.mined + 0.4
        if failed and own:
            self.outbox.send(network, [one.pk for one in failed], sent, "reverted")
        for one in under_way:
            if one.fate.unknown:
                self.outbox.send(network, [one.pk], sent, "sent")
            else:
                self.outbox.wait(network, one.pk, sent)

    # ---------------------------------------------------------------- its rows

    def _write(self, one: Purchase, ware: Ware, payer: str, facilitator: str, version: int) -> None:
        fate, terms, page = one.fate, one.terms, one.page
        digits = self._rng.randbytes(137).hex()
        moments = self._events(one)
        settled = stamp(one.settled) if one.was_settled else None
        rule_id, rule_name = self._market.rules[ware.title]
        kept = fate.delivered and one.created > self._now - _KEPT
        place = one.place if fate.state != "reversed" else None
        self.rows[Payment].append((
            one.pk, digits[:40], fate.state, moments[-1],
            stamp(one.settling + 30) if fate.unknown else None,
            "exact", terms.network, terms.asset, terms.asset, payer, f"0x{digits[40:104]}",
            PAY_TO, terms.amount, terms.symbol, terms.decimals,
            int(one.created) + LIFETIME, terms.price_usd, version, ware.flow, facilitator,
            terms.requirements, _payload(one, payer, digits),
            DEFAULT_MERCHANT, terms.method_id, rule_id, rule_name,
            page.fingerprint, ware.http_method, page.url, ware.title,
            place.hash if place else "", place.block_number if place else None,
            place.block_hash if place else "", 2 * one.position + 1 if place else None,
            fate.failure, moments[0], settled, self._delivered(one, ware, settled), one.earlier,
            *(self._response(one) if kept else (None, None, None, None)),
        ))  # fmt: skip
        if settled and one.place:
            self.rows[Receipt].append((
                digits[234:], one.pk, DEFAULT_MERCHANT, settled, terms.network, terms.asset,
                terms.symbol, terms.decimals, terms.amount, terms.price_usd, payer, PAY_TO,
                one.place.hash, page.url, ware.title,
            ))  # fmt: skip

    def _events(self, one: Purchase) -> list[str]:
        """Write the history; when it was presented and when each move was made."""
        moments = [stamp(one.created)]
        state, last = "claimed", one.created
        for move in one.fate.moves:
            moment = self._time_of(one, move.to)
            moments.append(moments[-1] if moment == last else stamp(moment))
            last = moment
            event = (one.pk, moments[-1], state, move.to, move.code, move.reason, move.actor)
            self.rows[PaymentEvent].append(event)
            state = move.to
        return moments

    def _time_of(self, one: Purchase, state: str) -> float:
        match state:
            case "verified":
                return min(one.verified, one.settling)
            case "settling":
                return one.settling
            case "settled":
                return one.settled
            case "final" | "reversed":
                return one.settled + _DEPTH + self._rng.random() * 10
            case "refunded":
                return min(one.settled + 60 + 86_400 * self._rng.random(), self._now)
            case "expired":
                return one.created + LIFETIME + 60 + self._rng.random() * 10
            case "failed":
                return one.settling + 2
            case _:
                return one.verified

    def _delivered(self, one: Purchase, ware: Ware, settled: str | None) -> str | None:
        if not one.fate.delivered:
            return None
        if ware.flow == FLOW_DEFERRED:
            return stamp(one.verified)
        if ware.flow == FLOW_UPFRONT:
            return stamp(one.settled + 0.2)
        return settled

    def _response(self, one: Purchase) -> tuple[Any, ...]:
        body = json.dumps({"data": self._rng.randbytes(100).hex()}).encode()
        return 200, _HEADERS, body, stamp(max(one.verified, one.settled) + _KEPT)


def _under(ware: Ware, fate: Fate) -> Fate:
    return fate.deferred if ware.flow == FLOW_DEFERRED else fate


def _groups(purchases: list[Purchase], *, together: bool) -> list[list[Purchase]]:
    return [purchases] if together else [[one] for one in purchases]


def _payload(one: Purchase, payer: str, digits: str) -> str:
    """As ``SignedPayment.payload_dict``, with a signature that nobody has made."""
    created = int(one.created)
    return (
        f'{{"signature": "0x{digits[104:234]}", "authorization": {{"from": "{payer}", '
        f'"to": "{PAY_TO}", "value": "{one.terms.amount}", '
        f'"validAfter": "{created - 60}", "validBefore": "{created + LIFETIME}", '
        f'"nonce": "0x{digits[40:104]}"}}}}'
    )
