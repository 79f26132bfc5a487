"""Several facilitators in order; the next is asked only where the last cannot have acted.

A signed authorization can be used once, yet two facilitators that both try to use it cost gas,
and their answers contradict each other: one says "settled", the other "used already". So:

* whoever verified a payment settles it. ``payments`` writes its alias on the row;
* before a settle request leaves, the row names the one it goes to, committed;
* the next one is asked only where the last provably sent nothing (FacilitatorUnavailable). Silence,
  an error or nonsense after a settle request is an unknown outcome, and the chain decides;
* an unknown outcome is tried again with the same one alone.

Each has a circuit breaker. One that is open is asked last, not never: breakers save waiting, and a
payment that only a broken-looking facilitator could take is offered to it all the same. So nobody
can stop a site from selling by provoking failures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.db import router

from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    InvalidTransition,
    PaymentRefused,
    ServiceUnavailable,
    SettlementFailed,
)
from x402_django.facilitators.base import (
    BaseFacilitator,
    Kind,
    facilitator_class,
    get_facilitator,
    is_positive,
)
from x402_django.facilitators.breaker import CircuitBreaker

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from eth_account.signers.local import LocalAccount

    from x402_django.chain.upkeep import Keeper
    from x402_django.models import Payment
    from x402_django.protocol.types import Settlement, SignedPayment

logger = logging.getLogger("x402_django.facilitators")

#: Refusals that speak of what a facilitator can do, not of the payment.
_NOT_MINE: Final = frozenset(
    {
        Code.INVALID_NETWORK,
        Code.INVALID_SCHEME,
        Code.INVALID_VERSION,
        Code.UNSUPPORTED_SCHEME,
        "unsupported_network",
    }
)


class FailoverFacilitator(BaseFacilitator):
    """Asks the first of several facilitators that answers.

    Options:
        FACILITATORS: aliases of ``X402["FACILITATORS"]``, the preferred one first; required.
        FAILURES: failures in a row after which one is asked last; default 5.
        COOL_DOWN: seconds until such a one is tried again; default 30.

    On a payment's row stands the alias of the one that has it, never this one's, from the moment
    it is verified.
    """

    option_names = frozenset({"FACILITATORS", "FAILURES", "COOL_DOWN"})

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self.problem = _problem(alias, options)
        aliases = [] if self.problem else options["FACILITATORS"]
        self.members = {name: get_facilitator(name) for name in aliases}
        members = self.members.values()
        self.trusted = bool(members) and all(member.trusted for member in members)
        self.needs_rpc = any(member.needs_rpc for member in members)
        self.spends_gas = any(member.spends_gas for member in members)
        self.breakers = {
            name: CircuitBreaker(
                name,
                failures=int(options.get("FAILURES", 5)),
                cool_down=float(options.get("COOL_DOWN", 30)),
            )
            for name in aliases
        }

    def verify(self, signed: SignedPayment) -> None:
        self.verified_by(signed)

    def verified_by(self, signed: SignedPayment) -> BaseFacilitator:
        refusal: PaymentRefused | None = None
        for member in self._in_order(signed):
            try:
                with self._watched(member):
                    return member.verified_by(signed)
            except PaymentRefused as error:
                if error.code not in _NOT_MINE:
                    raise
                refusal = error
            except ConfigurationError as error:
                logger.error("Facilitator %s is set up wrongly: %s", member.alias, error)
            except ServiceUnavailable:
                logger.info("Facilitator %s could not verify; the next is asked.", member.alias)
        if refusal is not None:
            raise refusal
        raise FacilitatorUnavailable()

    def settle(self, signed: SignedPayment, payment: Payment) -> Settlement:
        """Settle with whoever the row names; with the next only while nothing was sent."""
        holder = self.members.get(payment.facilitator)
        if holder is not None:
            try:
                return self._settle(holder, signed, payment)
            except FacilitatorUnavailable:
                if payment.outcome_unknown_at is not None:
                    raise  # this time nothing was sent; an earlier time it may have been
        for member in self._in_order(signed):
            if member is holder or not self._verifies(member, signed):
                continue
            hand_over(payment, member)
            try:
                return self._settle(member, signed, payment)
            except FacilitatorUnavailable:
                logger.info("Facilitator %s could not be reached to settle.", member.alias)
        raise FacilitatorUnavailable()

    def keepers(self) -> Sequence[Keeper]:
        return [keeper for member in self.members.values() for keeper in member.keepers()]

    def supported(self) -> frozenset[Kind]:
        """What any of them supports. Raises FacilitatorUnavailable if none could be asked."""
        found: set[Kind] = set()
        answered = False
        for member in self.members.values():
            try:
                found |= member.supported()
                answered = True
            except FacilitatorUnavailable:
                continue
        if not answered:
            raise FacilitatorUnavailable()
        return frozenset(found)

    def settlers(self, network: str) -> Sequence[str]:
        """Those of all of them: whom the payer has signed for is asked to settle, nobody else.

        Raises FacilitatorUnavailable if none could be asked.
        """
        return self._of_all(lambda member: member.settlers(network))

    def claimants(self, network: str) -> Sequence[str]:
        """As ``settlers``: only members with wallets of this site have some."""
        return self._of_all(lambda member: member.claimants(network))

    def claimant(self, address: str) -> LocalAccount | None:
        found = (member.claimant(address) for member in self.members.values())
        return next((account for account in found if account is not None), None)

    def _of_all(self, wallets: Callable[[BaseFacilitator], Sequence[str]]) -> Sequence[str]:
        found: list[str] = []
        answered = False
        for member in self.members.values():
            try:
                found += wallets(member)
                answered = True
            except (FacilitatorUnavailable, ConfigurationError):
                continue
        if not answered:
            raise FacilitatorUnavailable()
        return tuple(dict.fromkeys(found))

    def check(self) -> list[CheckMessage]:
        from django.core.checks import Error

        found = super().check()
        if self.problem:
            where = f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS']"
            found.append(Error(f"{where}{self.problem}", id="x402_django.E038"))
        return found

    def _in_order(self, signed: SignedPayment) -> Iterator[BaseFacilitator]:
        """Those that may settle this payment; those with an open breaker last."""
        if self.problem:
            raise ConfigurationError(
                f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS']{self.problem}"
            )
        last: list[BaseFacilitator] = []
        for alias, member in self.members.items():
            if not _may_support(member, signed):
                continue
            if self.breakers[alias].admits():
                yield member
            else:
                last.append(member)
        yield from last

    @contextmanager
    def _watched(self, member: BaseFacilitator) -> Iterator[None]:
        """Tell the breaker of ``member`` how the block went. A proper "no" is an answer."""
        breaker = self.breakers[member.alias]
        try:
            yield
        except (PaymentRefused, SettlementFailed):
            breaker.succeeded()
            raise
        except BaseException:
            breaker.failed()
            raise
        breaker.succeeded()

    def _settle(
        self, member: BaseFacilitator, signed: SignedPayment, payment: Payment
    ) -> Settlement:
        with self._watched(member):
            return member.settle(signed, payment)

    def _verifies(self, member: BaseFacilitator, signed: SignedPayment) -> bool:
        """Whether ``member``, which has not seen the payment yet, would settle it.

        Some services settle only what they have verified; and nothing is sent to one that says no.
        """
        try:
            with self._watched(member):
                member.verify(signed)
        except (PaymentRefused, ServiceUnavailable, ConfigurationError) as error:
            code = getattr(error, "code", "")
            logger.info("Facilitator %s does not take the payment over (%s).", member.alias, code)
            return False
        return True


def hand_over(payment: Payment, facilitator: BaseFacilitator) -> None:
    """Write on the row who will have the payment next. Committed when it returns.

    Raises InvalidTransition if the row is no longer this worker's: then nothing may be sent.
    """
    from x402_django.models import Payment, PaymentEvent
    from x402_django.models.statements import move

    event = PaymentEvent(
        payment=payment,
        at=clock.now(),
        from_state=payment.state,
        to_state=payment.state,
        code="facilitator_changed",
        reason=f"{payment.facilitator} sent nothing; {facilitator.alias} settles."[:500],
        actor="facilitator",
    )
    values = {"facilitator": facilitator.alias}
    if not move(router.db_for_write(Payment), payment, values, [event]):
        raise InvalidTransition(f"Payment {payment.public_id} was taken over by another worker.")
    payment.facilitator = facilitator.alias


def _may_support(member: BaseFacilitator, signed: SignedPayment) -> bool:
    """False only if it says so: one that cannot tell is asked about the payment itself."""
    offer = signed.offer
    try:
        if offer.settler:
            return offer.settler in member.wallets_for(offer)
        return member.supports(offer.network, offer.scheme)
    except (ServiceUnavailable, ConfigurationError, NotImplementedError):
        return True


def _problem(alias: str, options: Mapping[str, Any]) -> str:
    """What is wrong with the options, to be read after their path; empty if nothing is."""
    aliases = options.get("FACILITATORS")
    if (
        not isinstance(aliases, Sequence)
        or isinstance(aliases, str)
        or not aliases
        or not all(isinstance(name, str) for name in aliases)
    ):
        return "['FACILITATORS'] must be a list of aliases, the preferred one first."
    if len(set(aliases)) != len(aliases):
        return "['FACILITATORS'] names a facilitator twice."
    for name in aliases:
        if name == alias or issubclass(facilitator_class(name), FailoverFacilitator):
            return f"['FACILITATORS'] names {name!r}, which only asks others itself."
    for option in ("FAILURES", "COOL_DOWN"):
        if not is_positive(options.get(option, 1)):
            return f"[{option!r}] must be a number greater than 0."
    return ""
