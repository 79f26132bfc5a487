"""What the outbox writes: a nonce taken, a transaction signed, its payments aboard, committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, router, transaction
from django.db.models import F

from x402_django import clock
from x402_django.chain import queue
from x402_django.chain.fees import Fees
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.exceptions import InvalidTransition
from x402_django.models import (
    ChainTransaction,
    ChainTransactionItem,
    ChannelClaim,
    ChannelClaimItem,
    Refund,
    RefundEvent,
    SettlementWallet,
)

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

Status = ChainTransaction.Status
ItemStatus = ChainTransactionItem.Status


@dataclass(frozen=True, slots=True)
class Passenger:
    """A payment that a transaction settles.

    ``ours``: whoever asked for it waits for the outcome of this very call. The others were found
    in the queue and ride only if they are still there when the transaction is stored.
    """

    payment_id: int
    ours: bool = True
    queued: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction without its nonce."""

    network: str
    account: LocalAccount
    to: str
    data: bytes
    gas: int
    fees: Fees
    passengers: tuple[Passenger, ...] = ()
    facilitator: str = ""
    prepares: int | None = None
    value: int = 0
    #: The refund that it sends, which is bound to it as it is stored.
    refund: Refund | None = None
    #: The claim from payment channels that it is, unsaved, and what is claimed of each.
    claim: tuple[ChannelClaim, tuple[ChannelClaimItem, ...]] | None = None


class NotAboardError(Exception):
    """Nothing was stored: passengers ride elsewhere, wait elsewhere, or were taken back.

    ``places`` are the live items of all passengers, by payment, as they were then.
    """

    def __init__(self, places: dict[int, ChainTransactionItem]) -> None:
        super().__init__("not all payments could come aboard")
        self.places = places


def store(draft: Draft) -> ChainTransaction:
    """Take a nonce, sign, insert, commit. Raises NotAboardError, RpcUnavailable.

    IntegrityError where a claim from channels is bound, and another of the payee's is open.
    """
    try:
        with transaction.atomic(using=alias(), durable=True):
            # The wallet's lock comes first: nonces are stored in their order.
            nonce = _take_nonce(draft.network, draft.account.address)
            row = sign(draft, nonce)
            row.save(using=alias(), force_insert=True)
            _board(draft, row)
            _bind_refund(draft, row)
            _bind_claim(draft, row)
            return row
    except SettlementWallet.DoesNotExist:
        _create_wallet(draft.network, draft.account.address)
        return store(draft)
    except (IntegrityError, _LeftError):
        found = queue.places(one.payment_id for one in draft.passengers)
        mended = _mend(draft.passengers, found)
        if mended is None:
            raise NotAboardError(found) from None
        if mended == draft.passengers:
            raise  # not for the passengers' sake
        return store(replace(draft, passengers=mended))


def sign(draft: Draft, nonce: int) -> ChainTransaction:
    """The signed transaction, not yet saved."""
    fields: dict[str, Any] = {
        "chainId": int(draft.network.partition(":")[2]),
        "nonce": nonce,
        "to": draft.to,
        "value": draft.value,
        "data": draft.data,
        "gas": draft.gas,
        **draft.fees.as_transaction(),
    }
    signed = draft.account.sign_transaction(fields)
    return ChainTransaction(
        network=draft.network,
        wallet=draft.account.address,
        nonce=nonce,
        hash="0x" + bytes(signed.hash).hex(),
        raw=bytes(signed.raw_transaction),
        to=draft.to,
        value=draft.value,
        gas_limit=draft.gas,
        max_fee_per_gas=draft.fees.max_fee,
        max_priority_fee_per_gas=draft.fees.priority_fee,
        payments_count=len(draft.passengers),
        prepares_id=draft.prepares,
        created_at=clock.now(),
    )


def drop(row: ChainTransaction, reason: str, *, places: ItemStatus = ItemStatus.DROPPED) -> None:
    """It will not be mined: its payments may ride elsewhere. Not if it is mined by now."""
    with transaction.atomic(using=alias()):
        rows = ChainTransaction.objects.using(alias())
        dropped = rows.filter(pk=row.pk, status__in=(Status.SIGNED, Status.SENT)).update(
            status=Status.DROPPED, last_error=reason
        )
        if dropped:
            items = ChainTransactionItem.objects.using(alias())
            items.filter(chain_transaction_id=row.pk, status=ItemStatus.RIDING).update(
                status=places
            )
    if dropped:
        row.status, row.last_error = Status.DROPPED, reason
    else:
        row.refresh_from_db()


def give_back(row: ChainTransaction) -> bool:
    """Undo a transaction that no node took, if its nonce was the last; False if it was not.

    A nonce in the middle cannot be given back: the later ones wait for it. The row then stays,
    and is sent again with the others.
    """
    with transaction.atomic(using=alias(), durable=True):
        wallet = SettlementWallet.objects.using(alias()).filter(
            network=row.network, address=row.wallet, next_nonce=row.nonce + 1
        )
        if not wallet.update(next_nonce=row.nonce):
            return False
        drop(row, row.last_error, places=ItemStatus.REFUSED)
    return True


def catch_up(row: ChainTransaction) -> None:
    """The chain is further than our count: the key is used elsewhere too. Go on from there."""
    drop(row, "its nonce was used by another transaction")
    count = chain_nonce(row.network, row.wallet)
    SettlementWallet.objects.using(alias()).filter(
        network=row.network, address=row.wallet, next_nonce__lt=count
    ).update(next_nonce=count)


def chain_nonce(network: str, address: str, block: str | int = "pending") -> int:
    """How many transactions the chain knows of the wallet. Raises RpcUnavailable."""
    w3 = get_web3(network)
    with rpc_errors(network):
        return w3.eth.get_transaction_count(checksum(address), block)  # type: ignore[arg-type]


def alias() -> str:
    """The database of the outbox."""
    return router.db_for_write(ChainTransaction)


class _LeftError(Exception):
    """A passenger from the queue is not in it any more."""


def _board(draft: Draft, row: ChainTransaction) -> None:
    items = ChainTransactionItem.objects.using(alias())
    queued = [one.payment_id for one in draft.passengers if one.queued]
    if queued:
        taken, _ = items.filter(payment_id__in=queued, status__in=queue.QUEUED).delete()
        if taken != len(queued):
            raise _LeftError
    items.bulk_create(
        ChainTransactionItem(
            payment_id=one.payment_id,
            network=draft.network,
            facilitator=draft.facilitator,
            status=ItemStatus.RIDING,
            chain_transaction=row,
            position=position,
            created_at=row.created_at,
        )
        for position, one in enumerate(draft.passengers)
    )


def _bind_refund(draft: Draft, row: ChainTransaction) -> None:
    """Raises InvalidTransition, and nothing is stored, if the refund is not to be sent any more."""
    refund = draft.refund
    if refund is None:
        return
    now = clock.now()
    values = {"state": Refund.State.SENDING, "state_changed_at": now, "hindrance": ""}
    rows = Refund.objects.using(alias()).filter(
        pk=refund.pk, state=Refund.State.APPROVED, chain_transaction__isnull=True
    )
    if not rows.update(**values, chain_transaction=row, sender=row.wallet):
        raise InvalidTransition(f"Refund {refund.public_id} is not to be sent any more.")
    RefundEvent.objects.using(alias()).create(
        refund=refund,
        at=now,
        from_state=Refund.State.APPROVED,
        to_state=Refund.State.SENDING,
        reason=f"Nonce {row.nonce} of {row.wallet}.",
        actor="refunds",
    )


def _bind_claim(draft: Draft, row: ChainTransaction) -> None:
    """Raises IntegrityError, and nothing is stored, while another claim of the payee's is open."""
    if draft.claim is None:
        return
    claim, items = draft.claim
    claim.chain_transaction = row
    claim.save(using=alias(), force_insert=True)
    for item in items:
        item.claim = claim
    ChannelClaimItem.objects.using(alias()).bulk_create(items)


def _mend(
    passengers: Iterable[Passenger], found: dict[int, ChainTransactionItem]
) -> tuple[Passenger, ...] | None:
    """The same passengers as they are queued now; None if one of them cannot come."""
    mended = []
    for one in passengers:
        item = found.get(one.payment_id)
        if item is None:
            if not one.ours:
                return None
            mended.append(replace(one, queued=False))
        elif item.status == ItemStatus.WAITING or (one.ours and item.status == ItemStatus.ALONE):
            mended.append(replace(one, queued=True))
        else:
            return None
    return tuple(mended)


def _take_nonce(network: str, address: str) -> int:
    # The UPDATE comes first: it locks the row on every database, SQLite too.
    wallet = SettlementWallet.objects.using(alias()).filter(network=network, address=address)
    if not wallet.update(next_nonce=F("next_nonce") + 1):
        # Not left to the SELECT below: by then another process may have created the row, of
        # which this transaction would hold neither the lock nor a nonce.
        raise SettlementWallet.DoesNotExist
    return wallet.values_list("next_nonce", flat=True).get() - 1


def _create_wallet(network: str, address: str) -> None:
    SettlementWallet.objects.using(alias()).get_or_create(
        network=network, address=address, defaults={"next_nonce": chain_nonce(network, address)}
    )
