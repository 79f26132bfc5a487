"""Looking after settlement wallets: stuck transactions, gaps in the nonces, money for gas.

Called by the periodic task, which alone is patient enough. All of it may run in several processes
at once: each step is one conditional write, and what is sent twice is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.dispatch import Signal

from x402_django import clock
from x402_django.chain.broadcast import broadcast, find_receipt, mark_lost, record
from x402_django.chain.fees import current_fees, estimate_gas, within_ceiling
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.chain.storing import Draft, alias, chain_nonce, sign
from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError, FacilitatorUnavailable, RpcUnavailable
from x402_django.models import ChainTransaction, ReplacedTransaction, SettlementWallet

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

logger = logging.getLogger("x402_django.chain")

Status = ChainTransaction.Status
_OPEN: Final = (Status.SIGNED, Status.SENT)

#: Sent when a wallet has less than its ``LOW_BALANCE``, at each look at it. Arguments:
#: ``network``, ``address``, ``balance`` and ``minimum`` in wei. The sender is SettlementWallet.
wallet_balance_low = Signal()

#: How long a mined transaction is watched for reorganisations.
_REORGANISED_WITHIN: Final = timedelta(hours=1)
#: How often a wallet's balance is looked at.
BALANCE_EVERY: Final = timedelta(minutes=5)
#: Nodes take a replacement that pays at least a tenth more; this is an eighth.
_RAISE: Final = (9, 8)
#: Gaps filled at once.
_MOST_GAPS: Final = 50


@dataclass(frozen=True, slots=True)
class Keeper:
    """A wallet that may sign, and the balance in wei below which its owner is warned."""

    account: LocalAccount
    low_balance: int | None = None


def keep(keepers: Iterable[Keeper]) -> None:
    """Look after the wallets of ``keepers`` on every network on which they have sent."""
    by_address = {str(one.account.address): one for one in keepers}
    for wallet in SettlementWallet.objects.using(alias()).filter(address__in=by_address):
        try:
            _keep_one(wallet, by_address[wallet.address])
        except (RpcUnavailable, ConfigurationError) as error:
            logger.warning("Wallet %s cannot be looked after: %s", wallet, error)


def _keep_one(wallet: SettlementWallet, keeper: Keeper) -> None:
    watch_balance(wallet, keeper.low_balance)
    send_lost(wallet)
    try:
        bump_stuck(wallet, keeper.account)
        fill_gaps(wallet, keeper.account)
    except FacilitatorUnavailable as error:
        logger.warning("Wallet %s waits for cheaper gas: %s", wallet, error)


def send_lost(wallet: SettlementWallet) -> list[ChainTransaction]:
    """Find what a reorganisation has moved to another block, and send again what it has dropped.

    Also what settles no payment, or payments that are final: a nonce that is missing holds up
    all later ones. Nonces are mined in their order, so the newest transaction that is still in
    its block vouches for all before it: one question where nothing has changed. Returns what was
    sent. Raises RpcUnavailable.
    """
    rows = ChainTransaction.objects.using(alias()).filter(
        network=wallet.network,
        wallet=wallet.address,
        status__in=(Status.MINED, Status.REVERTED),
        mined_at__gt=clock.now() - _REORGANISED_WITHIN,
    )
    lost: list[ChainTransaction] = []
    count: int | None = None
    for row in rows.order_by("-nonce").iterator():
        before = row.block_hash
        receipt = find_receipt(row)
        if receipt is not None:
            record(row, receipt)
            if row.block_hash == before:
                break
            continue
        if count is None:
            count = chain_nonce(wallet.network, wallet.address, "latest")
        if row.nonce >= count:  # otherwise the node has no receipt of what it has mined
            mark_lost(row)
            lost.insert(0, row)
    for row in lost:
        logger.warning("Transaction %s was reorganised away; it is sent again.", row.hash)
        broadcast(row)
    return lost


def bump_stuck(wallet: SettlementWallet, account: LocalAccount) -> ChainTransaction | None:
    """Raise the fee of the wallet's first open transaction if it waits too long for its block.

    Those after it wait for it in any case. Returns it if it was raised. Raises RpcUnavailable.
    """
    before = clock.now() - timedelta(seconds=x402.network(wallet.network).bump_after)
    rows = ChainTransaction.objects.using(alias()).filter(
        network=wallet.network, wallet=wallet.address, status__in=_OPEN
    )
    row = rows.order_by("nonce").first()
    if row is None or (row.bumped_at or row.created_at) > before:
        return None
    return row if bump(row, account) else None


def bump(row: ChainTransaction, account: LocalAccount) -> bool:
    """Sign an open transaction anew for a higher fee and send it; whether that was done.

    Same nonce, same call: only one of the two can be mined, and either does the same. Raises
    RpcUnavailable, and FacilitatorUnavailable above the ceiling.
    """
    now = current_fees(row.network)
    fees = replace(
        now,
        max_fee=max(now.max_fee, _raised(row.max_fee_per_gas)),
        priority_fee=max(now.priority_fee, _raised(row.max_priority_fee_per_gas)),
    )
    capped = within_ceiling(fees, row.network)
    if capped.max_fee < _raised(row.max_fee_per_gas):
        logger.error("Transaction %s is stuck, and MAX_FEE_GWEI forbids to pay more.", row.hash)
        return False
    data = _call_of(bytes(row.raw))
    to = checksum(row.to)
    draft = Draft(row.network, account, to, data, row.gas_limit, capped, value=int(row.value))
    fresh = sign(draft, row.nonce)
    if not _put_in_place(row, fresh):
        return False
    logger.warning("Transaction %s was stuck; sent as %s.", fresh.hash, row.hash)
    broadcast(row)
    return True


def fill_gaps(wallet: SettlementWallet, account: LocalAccount) -> list[int]:
    """Use up nonces for which there is no transaction, so that later ones can be mined.

    They come from transactions that were dropped for another one's sake, which a reorganisation
    then took away. Returns the nonces. Raises RpcUnavailable.
    """
    mined = chain_nonce(wallet.network, wallet.address, "latest")
    if mined >= wallet.next_nonce:
        return []
    rows = ChainTransaction.objects.using(alias()).filter(
        network=wallet.network, wallet=wallet.address, nonce__gte=mined
    )
    known = set(rows.exclude(status=Status.DROPPED).values_list("nonce", flat=True))
    missing = [n for n in range(mined, wallet.next_nonce) if n not in known][:_MOST_GAPS]
    if not missing or chain_nonce(wallet.network, wallet.address) > missing[0]:
        return []  # none, or the nodes have something there that will do
    own: Any = checksum(wallet.address)
    fees = within_ceiling(current_fees(wallet.network), wallet.network)
    with rpc_errors(wallet.network):
        # A plain transfer of nothing to itself; not on every network is it 21,000 gas.
        gas = estimate_gas(get_web3(wallet.network), {"from": own, "to": own})
    draft = Draft(wallet.network, account, own, b"", gas, fees)
    return [nonce for nonce in missing if _fill(wallet, draft, nonce)]


def watch_balance(wallet: SettlementWallet, minimum: int | None) -> None:
    """Note the wallet's balance, now and then, and warn if it is low. Raises RpcUnavailable."""
    now = clock.now()
    due = SettlementWallet.objects.using(alias()).filter(
        Q(balance_at__isnull=True) | Q(balance_at__lt=now - BALANCE_EVERY), pk=wallet.pk
    )
    if not due.update(balance_at=now):
        return
    w3 = get_web3(wallet.network)
    with rpc_errors(wallet.network):
        balance = int(w3.eth.get_balance(checksum(wallet.address)))
    SettlementWallet.objects.using(alias()).filter(pk=wallet.pk).update(
        balance=balance, low_balance=minimum
    )
    if minimum is not None and balance < minimum:
        logger.error(
            "Wallet %s on %s has %s wei left for gas, less than LOW_BALANCE.",
            wallet.address,
            wallet.network,
            balance,
        )
        wallet_balance_low.send_robust(
            sender=SettlementWallet,
            network=wallet.network,
            address=wallet.address,
            balance=balance,
            minimum=minimum,
        )


def _fill(wallet: SettlementWallet, draft: Draft, nonce: int) -> bool:
    row = sign(draft, nonce)
    wallets = SettlementWallet.objects.using(alias()).filter(pk=wallet.pk, next_nonce__gt=nonce)
    try:
        with transaction.atomic(using=alias(), durable=True):
            # Under the wallet's lock: the last nonce may have been given back meanwhile, and
            # then belongs to whoever stores next.
            if not wallets.update(next_nonce=F("next_nonce")):
                return False
            row.save(using=alias(), force_insert=True)
    except IntegrityError:
        return False  # somebody else has filled it
    logger.error("Nonce %s of %s was missing; it is used up now.", nonce, wallet)
    broadcast(row)
    return True


def _put_in_place(row: ChainTransaction, fresh: ChainTransaction) -> bool:
    """Let ``row`` be what ``fresh`` is, and keep what it was. False if it is open no more."""
    now = clock.now()
    values: dict[str, Any] = {
        "hash": fresh.hash,
        "raw": fresh.raw,
        "max_fee_per_gas": fresh.max_fee_per_gas,
        "max_priority_fee_per_gas": fresh.max_priority_fee_per_gas,
        "status": Status.SIGNED,
        "bumps": row.bumps + 1,
        "bumped_at": now,
    }
    with transaction.atomic(using=alias(), durable=True):
        rows = ChainTransaction.objects.using(alias())
        if not rows.filter(pk=row.pk, hash=row.hash, status__in=_OPEN).update(**values):
            return False
        ReplacedTransaction.objects.using(alias()).create(
            chain_transaction=row,
            hash=row.hash,
            raw=bytes(row.raw),
            max_fee_per_gas=row.max_fee_per_gas,
            max_priority_fee_per_gas=row.max_priority_fee_per_gas,
            replaced_at=now,
        )
    fresh.hash = row.hash
    for name, value in values.items():
        setattr(row, name, value)
    return True


def _call_of(raw: bytes) -> bytes:
    """The call in signed bytes of ours: EIP-1559 with its type in front, or a plain old list."""
    import rlp

    typed = raw[0] < 0x80
    fields = rlp.decode(raw[1:] if typed else raw)
    return bytes(fields[7 if typed else 5])


def _raised(fee: int) -> int:
    return fee * _RAISE[0] // _RAISE[1] + 1
