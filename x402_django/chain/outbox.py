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
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db.models import F
from eth_typing import HexStr

from x402_django import clock
from x402_django.chain.broadcast import Verdict, broadcast, look
from x402_django.chain.fees import MAX_GAS, current_fees, estimate_gas, within_ceiling
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.chain.storing import (
    Draft,
    NotAboardError,
    Passenger,
    alias,
    catch_up,
    drop,
    give_back,
    store,
)
from x402_django.chain.upkeep import Keeper, keep
from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError, RpcUnavailable, SettlementFailed
from x402_django.models import ChainTransaction, ChainTransactionItem, Payment

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

logger = logging.getLogger("x402_django.chain")

Status = ChainTransaction.Status

#: Nonces tried when the chain says that ours were used by somebody else with the same key.
_ATTEMPTS: Final = 3
#: A payer's own transaction this old is not sent again: no other one of ours waits for its nonce.
_GIVEN_UP: Final = timedelta(days=1)
#: A signed transaction this old and not known to be sent belongs to a process that died.
ORPHANED: Final = timedelta(seconds=5)


def send(
    *,
    network: str,
    account: LocalAccount,
    to: str,
    data: bytes,
    payment_id: int | None = None,
    prepares: int | None = None,
    value: int = 0,
    facilitator: str = "",
    gas_limit: int | None = None,
    max_gas: int = MAX_GAS,
    note: bool = True,
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
        prepares: the Payment whose settlement this prepares, if it does.
        value: wei to send along.
        facilitator: alias of who settles it.
        gas_limit: by default what a simulation needs and a quarter more.
        max_gas: a simulation that needs more is refused.
        note: whether to write down at once that a node took it; see ``broadcast``.

    Raises:
        web3.exceptions.ContractLogicError: it would revert. Nothing was sent.
        SettlementFailed: it would need more than ``max_gas``. Nothing was sent.
        RpcUnavailable: no node was there, or all refused it. Nothing was sent.
    """
    wanted = replace(
        draft(network, account, to, data, gas_limit, max_gas, value), prepares=prepares
    )
    if payment_id is not None:
        wanted = replace(wanted, passengers=(Passenger(payment_id),), facilitator=facilitator)
    for _ in range(_ATTEMPTS):
        try:
            row, verdict = attempt(wanted, note=note)
        except NotAboardError as error:
            (item,) = error.places.values()
            row = ChainTransaction.objects.using(alias()).get(items=item)
            if row.status != Status.SIGNED:
                return row
            # Somebody else has stored it and may have sent it: a refusal now proves nothing.
            verdict = broadcast(row)
            if verdict is Verdict.SUPERSEDED:
                catch_up(row)
        if verdict is not Verdict.SUPERSEDED:
            return row
    raise RpcUnavailable(
        f"Something else sends transactions of the settlement wallet on {network} all the time."
    )


def attempt(wanted: Draft, *, note: bool = True) -> tuple[ChainTransaction, Verdict]:
    """Store a transaction and broadcast it, once.

    After ``SUPERSEDED`` the row is dropped, and another try takes another nonce. Raises
    NotAboardError (nothing was stored), RpcUnavailable as ``send``.
    """
    row = store(wanted)
    send_orphans(row)
    return row, _sent(row, broadcast(row, note=note))


def _sent(row: ChainTransaction, verdict: Verdict) -> Verdict:
    if verdict is Verdict.REFUSED and give_back(row):
        raise RpcUnavailable(f"The RPC endpoint of {row.network} refused the transaction.")
    if verdict is Verdict.SUPERSEDED:
        catch_up(row)
    return verdict


def transaction_for(payment_id: int) -> ChainTransaction | None:
    """The newest transaction that was made for a payment and not dropped."""
    rows = ChainTransaction.objects.using(alias()).filter(items__payment_id=payment_id)
    return rows.exclude(status=Status.DROPPED).order_by("-pk").first()


def preparation_under_way(payment_id: int, to: str) -> ChainTransaction | None:
    """What is being sent to ``to`` already to prepare this payment, or another of its payer."""
    payment = Payment.objects.using(alias()).only("network", "payer").get(pk=payment_id)
    rows = ChainTransaction.objects.using(alias()).filter(
        network=payment.network,
        to=checksum(to),
        status__in=(Status.SIGNED, Status.SENT),
        prepares__payer=payment.payer,
    )
    return rows.order_by("pk").first()


def having_transactions(payment_ids: Iterable[int]) -> frozenset[int]:
    """Which payments have had a transaction, dropped or not."""
    wanted = list(payment_ids)
    if not wanted:
        return frozenset()
    items = ChainTransactionItem.objects.using(alias()).filter(
        payment_id__in=wanted, chain_transaction__isnull=False
    )
    return frozenset(items.values_list("payment_id", flat=True))


def open_transactions(network: str) -> Counter[str]:
    """How many transactions wait for their block, by wallet."""
    rows = ChainTransaction.objects.using(alias()).filter(
        network=network, status__in=(Status.SIGNED, Status.SENT)
    )
    return Counter(rows.order_by().values_list("wallet", flat=True))


def rebroadcast(row: ChainTransaction) -> ChainTransaction:
    """Send a stored transaction again. Harmless at any time; the row as it then is.

    Raises RpcUnavailable only if no endpoint is configured or its chain is not known.
    """
    if row.status in (Status.SIGNED, Status.SENT) and broadcast(row) is Verdict.SUPERSEDED:
        drop(row, "its nonce was used by another transaction")
    return row


def refresh(row: ChainTransaction) -> ChainTransaction:
    """Look for the receipt and record what it says; the row as it then is.

    A mined transaction whose block is gone (a reorg) counts as sent again. Raises
    RpcUnavailable.
    """
    if row.status != Status.DROPPED:
        look(row)
    return row


def follow(row: ChainTransaction) -> Mapping[str, Any] | None:
    """Look for the receipt; where there is none yet, see that nothing keeps it from coming.

    What dead processes have stored and not sent is sent, this transaction or those before it.
    The row then says what is known. Raises RpcUnavailable.
    """
    receipt = look(row)
    if receipt is None:
        row.refresh_from_db(fields=["status", "sends", "hash", "raw", "bumps"])
        if row.status == Status.SIGNED and row.created_at < clock.now() - ORPHANED:
            rebroadcast(row)
        send_orphans(row)
    return receipt


def await_receipt(row: ChainTransaction, *, deadline: float) -> Mapping[str, Any] | None:
    """``follow`` until ``deadline`` (of ``time.monotonic``); None if there is no receipt then.

    The pauses begin short, so that a fast chain is fast, and grow to ``POLL_INTERVAL``.
    """
    interval = x402.network(row.network).poll_interval
    pause = interval / 16
    while True:
        try:
            receipt = follow(row)
        except RpcUnavailable as error:
            logger.warning("Transaction %s cannot be followed: %s", row.hash, error)
            receipt = None
        remaining = deadline - time.monotonic()
        if receipt is not None or remaining <= 0 or row.status == Status.DROPPED:
            return receipt
        time.sleep(min(pause, remaining))
        pause = min(2 * pause, interval)


def resume(*, older_than: timedelta, keepers: Iterable[Keeper] = ()) -> int:
    """See after every open transaction sent longer ago than that; how many are open still.

    For a periodic task: records receipts, and sends again what is not mined yet. ``keepers`` are
    the wallets whose keys are at hand: what is stuck there is sent for a higher fee, gaps are
    filled, and balances watched.
    """
    rows = ChainTransaction.objects.using(alias()).filter(
        status__in=(Status.SIGNED, Status.SENT), created_at__lt=clock.now() - older_than
    )
    rows = rows.exclude(prepares__payer=F("wallet"), created_at__lt=clock.now() - _GIVEN_UP)
    still_open = 0
    lost: set[str] = set()
    for row in rows.order_by("network", "wallet", "nonce").iterator():
        try:
            if row.network not in lost and refresh(row).status in (Status.SIGNED, Status.SENT):
                rebroadcast(row)
        except (RpcUnavailable, ConfigurationError) as error:
            lost.add(row.network)  # a node that hangs is not waited for once per transaction
            logger.warning("The transactions on %s cannot be followed: %s", row.network, error)
        still_open += row.status in (Status.SIGNED, Status.SENT)
    keep(keepers)
    return still_open


def draft(
    network: str,
    account: LocalAccount,
    to: str,
    data: bytes,
    gas_limit: int | None,
    max_gas: int,
    value: int,
) -> Draft:
    """A transaction that would not revert now; nothing is stored. Raises as ``send``."""
    w3 = get_web3(network)
    to = checksum(to)
    with rpc_errors(network):
        fees = within_ceiling(current_fees(network), network)
        if gas_limit is None:
            # With the fees, so that a wallet without the money for gas is noticed here too.
            call: Any = {
                "from": account.address,
                "to": to,
                "data": HexStr("0x" + data.hex()),
                "value": value,
                **fees.as_transaction(),
            }
            gas_limit = estimate_gas(w3, call)
    if gas_limit > max_gas:
        raise SettlementFailed(
            "Settling this payment needs too much gas.", code="gas_limit_exceeded"
        )
    return Draft(network, account, to, data, gas_limit, fees, value=value)


def send_orphans(row: ChainTransaction) -> None:
    """Send what a process that died had stored: the chain takes nonces in order only."""
    rows = ChainTransaction.objects.using(alias())
    orphans = rows.filter(
        network=row.network,
        wallet=row.wallet,
        status=Status.SIGNED,
        nonce__lt=row.nonce,
        created_at__lt=clock.now() - ORPHANED,
    )
    # Mostly there are none, so the rows themselves are a second question.
    for key in list(orphans.order_by("nonce").values_list("pk", flat=True)):
        rebroadcast(rows.get(pk=key))
