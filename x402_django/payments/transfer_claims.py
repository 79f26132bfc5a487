"""Who may have what for a transfer that the payer made itself and proves by its hash.

* A row is written only for a transfer that its sender has signed for: challenges and made-up
  hashes cost the ledger nothing.
* One transfer pays once: the unique constraint on (network, transaction, log index) decides, and
  the row holds its log from the start, before it is deep enough to count.
* Whether an earlier payment for the same request is owed is not asked, as it is for a signed
  authorization: this money is spent, and to turn it away would only hide it. Both are owed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn

from django.db import IntegrityError, router, transaction

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import FLOW_UPFRONT, SCHEME_TRANSFER, Code
from x402_django.exceptions import (
    InvalidTransition,
    PaymentPending,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment
from x402_django.models.querysets import identity
from x402_django.payments.entitlements import Claim, entitlement_of
from x402_django.payments.facts import RequestFacts
from x402_django.payments.machine import Step, advance
from x402_django.payments.proofs import (
    Evidence,
    is_signed_by_wallet,
    refuse_older,
    signed_transfers,
    unused,
)
from x402_django.payments.transfers import (
    begin,
    conclude,
    hold,
    is_deep_enough,
    resolve_transfer,
)
from x402_django.protocol.networks import parse_chain_id
from x402_django.protocol.proofs import TransferChallenge, TransferProof
from x402_django.protocol.types import Offer

if TYPE_CHECKING:
    from x402_django.chain.transfers import MinedTransfers, Transfer
    from x402_django.pricing import Quote

State = Payment.State

#: Seconds after a challenge's end in which a proof of a transfer made in time is still taken.
LATE_PROOF: Final = 24 * 3600


def claim_transfer(proof: TransferProof, quote: Quote, facts: RequestFacts) -> Claim:
    """What presenting ``proof`` entitles the request to: DELIVER, REPLAY or WAIT.

    Raises:
        PaymentRefused: it proves no payment for this request; ``code`` says why.
        PaymentPending: it may, but is not mined or not deep enough.
        InvalidTransition: the same proof is being taken at this moment.
        ServiceUnavailable: the chain could not be read.
    """
    challenge = TransferChallenge.from_id(proof.challenge_id)
    existing = (
        Payment.objects.defer("response_body")
        .filter(
            transaction=proof.transaction,
            network=challenge.network,
            nonce=proof.nonce,
            scheme=SCHEME_TRANSFER,
        )
        .first()
    )
    _refuse_foreign(proof, challenge, facts, existing)
    evidence = Evidence.wanted(challenge, proof)
    if existing is None:
        return _claim_new(evidence, challenge, quote, facts)
    _authenticate(existing, evidence)
    if existing.state in (State.RELEASED, State.REJECTED):
        _refuse_late(challenge)
        return _claim_again(existing, evidence, challenge)
    return _go_on(existing)


def _refuse_foreign(
    proof: TransferProof,
    challenge: TransferChallenge,
    facts: RequestFacts,
    existing: Payment | None,
) -> None:
    """Raise PaymentRefused for what can be told to be wrong without asking a network."""
    if challenge.fingerprint != facts.fingerprint:
        if existing is not None:
            raise PaymentRefused(
                "This payment was used for another request. Pay this one separately.",
                code=Code.ALREADY_USED,
            )
        raise PaymentRefused(
            "The challenge was issued for another request. Repeat that one with this proof.",
            code=Code.CHALLENGE_MISMATCH,
        )
    if proof.chain_id != parse_chain_id(challenge.network):
        raise PaymentRefused(
            "The proof names another chain than its challenge.", code=Code.INVALID_NETWORK
        )
    if proof.signature is None and not x402.allow_unsigned_proofs:
        raise PaymentRefused(
            "A transfer proof must be signed by the sender of the transfer.",
            code=Code.PROOF_NOT_SIGNED,
        )
    if existing is None:
        _refuse_late(challenge)


def _refuse_late(challenge: TransferChallenge) -> None:
    if clock.timestamp() > challenge.expires + LATE_PROOF:
        raise PaymentRefused("The challenge has expired.", code=Code.CHALLENGE_EXPIRED)


def _authenticate(existing: Payment, evidence: Evidence) -> None:
    """Make sure that the payer presents the proof again, and not somebody who knows its ids."""
    if existing.payload.get("signature", "") == evidence.proof.payload_dict()["signature"]:
        return
    if evidence.signer() == existing.payer or is_signed_by_wallet(evidence, existing.payer):
        return
    raise PaymentRefused(
        "The proof is not signed by the sender of the transfer.",
        code=Code.INVALID_PROOF_SIGNATURE,
    )


def _claim_new(
    evidence: Evidence, challenge: TransferChallenge, quote: Quote, facts: RequestFacts
) -> Claim:
    mined = evidence.read()
    if mined is None:
        _await(evidence, challenge, _new_row(evidence, challenge, quote, facts))
    for transfer in _acceptable(evidence, challenge, mined):
        payment = _new_row(evidence, challenge, quote, facts)
        hold(payment, transfer, mined)
        if _insert(payment):
            begin(payment)
            return _conclude_claim(payment, evidence, mined)
    raise PaymentRefused(
        "This transfer has paid for something else already.", code=Code.ALREADY_USED
    )


def _await(evidence: Evidence, challenge: TransferChallenge, payment: Payment) -> NoReturn:
    """Not mined. A row is written if its sender has surely signed, so that tasks look after it."""
    if clock.timestamp() > challenge.expires:
        raise PaymentRefused("The challenge has expired.", code=Code.CHALLENGE_EXPIRED)
    if not evidence.is_awaited_from_signer():
        raise PaymentPending()
    payment.payer = str(evidence.signer())
    if payment._state.adding:
        _insert(payment)
    else:
        advance(payment, Step(State.CLAIMED, "Presented again."), actor="request", **_AGAIN)
    begin(payment)
    raise PaymentPending(payment)


#: What a new attempt at a released row starts with.
_AGAIN: Final[dict[str, Any]] = {"new_attempt": True, "failure_code": ""}


def _claim_again(existing: Payment, evidence: Evidence, challenge: TransferChallenge) -> Claim:
    mined = evidence.read()
    if mined is None:
        _await(evidence, challenge, existing)
    _acceptable(evidence, challenge, mined, holder=existing)
    advance(existing, Step(State.CLAIMED, "Presented again."), actor="request", **_AGAIN)
    begin(existing)
    return _conclude_claim(existing, evidence, mined)


def _go_on(existing: Payment) -> Claim:
    """The same proof once more: what it has come to, looking at the chain if that is not known."""
    if existing.state == State.CLAIMED:
        begin(existing)  # the process that wrote the row has died, or is a moment ahead of us
    if existing.state in (State.SETTLING, State.REVERSED):
        try:
            resolve_transfer(existing, actor="request")
        except SettlementUnknown as doubt:
            raise PaymentPending(existing) from doubt
        except SettlementFailed as failure:
            raise PaymentRefused(str(failure), code=failure.code) from failure
    return entitlement_of(existing)


def _conclude_claim(payment: Payment, evidence: Evidence, mined: MinedTransfers) -> Claim:
    try:
        conclude(payment, evidence, mined, deep=is_deep_enough(payment, mined), actor="request")
    except SettlementUnknown as doubt:
        raise PaymentPending(payment) from doubt
    return entitlement_of(payment)


def _acceptable(
    evidence: Evidence,
    challenge: TransferChallenge,
    mined: MinedTransfers,
    holder: Payment | None = None,
) -> list[Transfer]:
    """The transfers that may pay, best first. Raises PaymentRefused if none may."""
    transfers = signed_transfers(evidence, mined)
    try:
        transfers = unused(transfers, mined, evidence.network, holder)
    except SettlementUnknown as doubt:
        raise PaymentPending from doubt
    refuse_older(evidence, mined)
    if mined.timestamp is None or mined.timestamp > challenge.expires:
        raise PaymentRefused(
            "The transfer was made after the challenge had expired.", code=Code.CHALLENGE_EXPIRED
        )
    return transfers


def _insert(payment: Payment) -> bool:
    """Write the row, durably. False if another payment has its log.

    Raises InvalidTransition if the same proof has just been written by another worker.
    """
    alias = router.db_for_write(Payment)
    try:
        with transaction.atomic(using=alias, durable=True):
            payment.save(force_insert=True, using=alias)
    except IntegrityError:
        rows = Payment.objects.using(alias)
        if rows.filter(**identity(payment)).exists():
            raise InvalidTransition("The same proof is being taken at this moment.") from None
        held = rows.filter(
            network=payment.network,
            transaction=payment.transaction,
            log_index=payment.log_index,
            kind=payment.kind,
        )
        if payment.log_index is not None and held.exists():
            return False
        raise
    return True


def _new_row(
    evidence: Evidence, challenge: TransferChallenge, quote: Quote, facts: RequestFacts
) -> Payment:
    now = clock.now()
    offer = _offer(challenge, quote)
    return Payment(
        state=State.CLAIMED,
        state_changed_at=now,
        created_at=now,
        scheme=SCHEME_TRANSFER,
        network=offer.network,
        asset=offer.asset,
        nonce=evidence.proof.nonce,
        pay_to=offer.pay_to,
        amount=offer.amount,
        asset_symbol=offer.symbol,
        asset_decimals=offer.decimals,
        valid_before=challenge.expires,
        price_usd=Decimal(challenge.price_usd) if challenge.price_usd is not None else None,
        x402_version=2,
        flow=FLOW_UPFRONT,
        facilitator="",
        requirements=offer.as_v2(),
        payload={**evidence.proof.payload_dict(), "issuedAt": challenge.issued},
        merchant_id=quote.merchant_id,
        method_id=offer.method_id,
        rule_id=quote.rule_id,
        rule_name=quote.rule_name,
        request_fingerprint=facts.fingerprint,
        request_method=facts.method[:16],
        resource_url=facts.resource_url,
        description=str(quote.description)[:500],
        session_access=quote.session_access,
        grant=None if quote.grant is None else quote.grant.as_json(),
        transaction=evidence.proof.transaction,
    )


def _offer(challenge: TransferChallenge, quote: Quote) -> Offer:
    """What was asked for. It stays in force until the challenge ends, whatever the price is now;
    of today's offers only the names are taken."""
    where = (challenge.network, challenge.asset, challenge.pay_to)
    same = [one for one in quote.offers if (one.network, one.asset, one.pay_to) == where]
    return Offer(
        scheme=SCHEME_TRANSFER,
        network=challenge.network,
        asset=challenge.asset,
        amount=challenge.amount,
        pay_to=challenge.pay_to,
        max_timeout_seconds=challenge.expires - challenge.issued,
        asset_name=same[0].asset_name if same else "",
        asset_version=same[0].asset_version if same else "",
        decimals=challenge.decimals,
        symbol=challenge.symbol,
        facilitator="",
        method_id=same[0].method_id if same else None,
    )
