"""Sending transactions: sign, store, commit, and only then broadcast.

A crash at any point leaves either nothing sent or a ``ChainTransaction`` that says what may have
been sent; whoever finds the row can broadcast it again, which is harmless. Nonces come from
``SettlementWallet``, one per stored transaction and without gaps: the simulation comes before the
nonce, so a transaction that would revert takes none.

``send`` commits by itself and refuses to run inside a transaction of the caller: a rollback
there would forget what is on its way.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError, router, transaction
from django.db.models import F
from eth_typing import HexStr

from x402_django import clock
from x402_django.chain.broadcast import Verdict, broadcast, look
from x402_django.chain.fees import MAX_GAS, Fees, current_fees, estimate_gas
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.exceptions import RpcUnavailable, SettlementFailed
from x402_django.models import ChainTransaction, SettlementWallet

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

logger = logging.getLogger("x402_django.chain")

Status = ChainTransaction.Status

#: Nonces tried when the chain says that ours were used by somebody else with the same key.
_ATTEMPTS: Final = 3
#: A signed transaction this old and not known to be sent belongs to a process that died.
_ORPHANED: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A transaction without its nonce."""

    network: str
    account: LocalAccount
    to: str
    data: bytes
    gas: int
    fees: Fees
    payment_id: int | None


class _AlreadyStoredError(Exception):
    """Another process has stored a transaction for the same payment."""


def send(
    *,
    network: str,
    account: LocalAccount,
    to: str,
    data: bytes,
    payment_id: int | None = None,
    gas_limit: int | None = None,
    max_gas: int = MAX_GAS,
) -> ChainTransaction:
    """Send a transaction of ``account``, once per payment; its row.

    The row's status says what is known: ``sent`` if a node took it, ``signed`` if no node
    answered (it may be on its way all the same, and will be sent again). Where the payment has
    a transaction already, that one is returned and no other is made.

    Args:
        network: CAIP-2.
        account: pays the gas.
        to: the contract that is called.
        data: the call.
        payment_id: the Payment this settles, if it settles one.
        gas_limit: by default what a simulation needs and a quarter more.
        max_gas: a simulation that needs more is refused.

    Raises:
        web3.exceptions.ContractLogicError: it would revert. Nothing was sent.
        SettlementFailed: it would need more than ``max_gas``. Nothing was sent.
        RpcUnavailable: no node was there, or all refused it. Nothing was sent.
    """
    draft = _prepare(network, account, to, data, payment_id, gas_limit, max_gas)
    for _ in range(_ATTEMPTS):
        row, fresh = _store(draft)
        if fresh:
            _send_orphans(row)
        elif row.status != Status.SIGNED:
            return row
        verdict = broadcast(row)
        if verdict is Verdict.REFUSED and _give_back(row):
            raise RpcUnavailable(f"The RPC endpoint of {network} refused the transaction.")
        if verdict is not Verdict.SUPERSEDED:
            return row
        _catch_up(row)
    raise RpcUnavailable(
        f"Something else sends transactions of the settlement wallet on {network} all the time."
    )


def transaction_for(payment_id: int) -> ChainTransaction | None:
    """The newest transaction that was made for a payment and not dropped."""
    rows = ChainTransaction.objects.using(_alias()).filter(payment_id=payment_id)
    return rows.exclude(status=Status.DROPPED).order_by("-pk").first()


def rebroadcast(row: ChainTransaction) -> ChainTransaction:
    """Send a stored transaction again. Harmless at any time; the row as it then is.

    Raises RpcUnavailable only if no endpoint is configured or its chain is not known.
    """
    if row.status in (Status.SIGNED, Status.SENT) and broadcast(row) is Verdict.SUPERSEDED:
        _drop(row, "its nonce was used by another transaction")
    return row


def refresh(row: ChainTransaction) -> ChainTransaction:
    """Look for the receipt and record what it says; the row as it then is.

    A mined transaction whose block is gone (a reorg) counts as sent again. Raises
    RpcUnavailable.
    """
    if row.status != Status.DROPPED:
        look(row)
    return row


def resume(*, older_than: timedelta) -> int:
    """See after every open transaction sent longer ago than that; how many are open still.

    For a periodic task: records receipts, and sends again what is not mined yet.
    """
    rows = ChainTransaction.objects.using(_alias()).filter(
        status__in=(Status.SIGNED, Status.SENT), created_at__lt=clock.now() - older_than
    )
    still_open = 0
    for row in rows.order_by("network", "wallet", "nonce").iterator():
        try:
            if refresh(row).status in (Status.SIGNED, Status.SENT):
                rebroadcast(row)
        except RpcUnavailable as error:
            logger.warning("Transaction %s cannot be followed: %s", row.hash, error)
        still_open += row.status in (Status.SIGNED, Status.SENT)
    return still_open


def _prepare(
    network: str,
    account: LocalAccount,
    to: str,
    data: bytes,
    payment_id: int | None,
    gas_limit: int | None,
    max_gas: int,
) -> _Draft:
    w3 = get_web3(network)
    to = checksum(to)
    with rpc_errors(network):
        fees = current_fees(w3)
        if gas_limit is None:
            # With the fees, so that a wallet without the money for gas is noticed here too.
            call: Any = {
                "from": account.address,
                "to": to,
                "data": HexStr("0x" + data.hex()),
                **fees.as_transaction(),
            }
            gas_limit = estimate_gas(w3, call)
    if gas_limit > max_gas:
        raise SettlementFailed(
            "Settling this payment needs too much gas.", code="gas_limit_exceeded"
        )
    return _Draft(network, account, to, data, gas_limit, fees, payment_id)


def _store(draft: _Draft) -> tuple[ChainTransaction, bool]:
    """Take a nonce, sign, insert, commit. The row, and whether it is new."""
    try:
        with transaction.atomic(using=_alias(), durable=True):
            nonce = _take_nonce(draft.network, draft.account.address)
            # Under the wallet's lock: whoever came first has committed its row.
            if draft.payment_id is not None and _settling(draft.payment_id) is not None:
                raise _AlreadyStoredError
            row = _sign(draft, nonce)
            row.save(using=_alias(), force_insert=True)
            return row, True
    except SettlementWallet.DoesNotExist:
        _create_wallet(draft.network, draft.account.address)
        return _store(draft)
    except (_AlreadyStoredError, IntegrityError):
        existing = _settling(draft.payment_id) if draft.payment_id is not None else None
        if existing is None:
            raise
        return existing, False


def _settling(payment_id: int) -> ChainTransaction | None:
    rows = ChainTransaction.objects.using(_alias()).filter(
        payment_id=payment_id, status__in=(Status.SIGNED, Status.SENT, Status.MINED)
    )
    return rows.order_by("-pk").first()


def _take_nonce(network: str, address: str) -> int:
    # The UPDATE comes first: it locks the row on every database, SQLite too.
    wallet = SettlementWallet.objects.using(_alias()).filter(network=network, address=address)
    if not wallet.update(next_nonce=F("next_nonce") + 1):
        # Not left to the SELECT below: by then another process may have created the row, of
        # which this transaction would hold neither the lock nor a nonce.
        raise SettlementWallet.DoesNotExist
    return wallet.values_list("next_nonce", flat=True).get() - 1


def _sign(draft: _Draft, nonce: int) -> ChainTransaction:
    fields: dict[str, Any] = {
        "chainId": int(draft.network.partition(":")[2]),
        "nonce": nonce,
        "to": draft.to,
        "value": 0,
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
        gas_limit=draft.gas,
        max_fee_per_gas=draft.fees.max_fee,
        max_priority_fee_per_gas=draft.fees.priority_fee,
        payment_id=draft.payment_id,
        created_at=clock.now(),
    )


def _create_wallet(network: str, address: str) -> None:
    SettlementWallet.objects.using(_alias()).get_or_create(
        network=network, address=address, defaults={"next_nonce": _chain_nonce(network, address)}
    )


def _catch_up(row: ChainTransaction) -> None:
    """The chain is further than our count: the key is used elsewhere too. Go on from there."""
    _drop(row, "its nonce was used by another transaction")
    count = _chain_nonce(row.network, row.wallet)
    SettlementWallet.objects.using(_alias()).filter(
        network=row.network, address=row.wallet, next_nonce__lt=count
    ).update(next_nonce=count)


def _chain_nonce(network: str, address: str) -> int:
    w3 = get_web3(network)
    with rpc_errors(network):
        return w3.eth.get_transaction_count(checksum(address), "pending")


def _give_back(row: ChainTransaction) -> bool:
    """Undo a transaction that no node took, if its nonce was the last; False if it was not.

    A nonce in the middle cannot be given back: the later ones wait for it. The row then stays,
    and is sent again with the others.
    """
    with transaction.atomic(using=_alias(), durable=True):
        wallet = SettlementWallet.objects.using(_alias()).filter(
            network=row.network, address=row.wallet, next_nonce=row.nonce + 1
        )
        if not wallet.update(next_nonce=row.nonce):
            return False
        _drop(row, row.last_error)
    return True


def _drop(row: ChainTransaction, reason: str) -> None:
    rows = ChainTransaction.objects.using(_alias())
    rows.filter(pk=row.pk, status__in=(Status.SIGNED, Status.SENT)).update(
        status=Status.DROPPED, last_error=reason
    )
    row.status, row.last_error = Status.DROPPED, reason


def _send_orphans(row: ChainTransaction) -> None:
    """Send what a process that died had stored: the chain takes nonces in order only."""
    orphans = ChainTransaction.objects.using(_alias()).filter(
        network=row.network,
        wallet=row.wallet,
        status=Status.SIGNED,
        nonce__lt=row.nonce,
        created_at__lt=clock.now() - _ORPHANED,
    )
    for orphan in orphans.order_by("nonce"):
        rebroadcast(orphan)


def _alias() -> str:
    return router.db_for_write(ChainTransaction)
