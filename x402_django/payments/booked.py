"""What the ledger has booked, in the form in which it is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import merge
from typing import Any, Final

from django.db.models import Q, QuerySet

from x402_django import clock
from x402_django.chain.evidence import paying_log
from x402_django.chain.incoming import IncomingTransfer
from x402_django.chain.receipts import read_receipt
from x402_django.conf import x402
from x402_django.constants import (
    ESCROW_ADDRESS,
    PERMIT2_ADDRESS,
    SCHEME_BATCH,
    SCHEME_EXACT,
    SCHEME_TRANSFER,
)
from x402_django.models import ChannelClaim, Payment, PaymentMethod, Receipt
from x402_django.models.querysets import PaymentQuerySet
from x402_django.protocol.assets import default_asset, find_asset, to_checksum_address
from x402_django.protocol.types import SignedPayment

State = Payment.State

#: Rows per query where keys are listed, and per fetch where rows are streamed.
CHUNK: Final = 500
#: How long a transfer that its payer made is expected to wait for its depth, which may be a tag
#: that follows half an hour behind.
_DEPTH_PATIENCE: Final = timedelta(hours=1)

_FIELDS: Final = (
    "reference", "asset", "amount", "price_usd", "payer", "pay_to", "transaction",
    "payment__public_id", "payment__state", "payment__transaction", "payment__block_number",
    "payment__log_index",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """A token that payments are made in; ``symbol`` and ``decimals`` are for people."""

    address: str
    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Booked:
    """A receipt, with where the ledger last saw its transfer (``None``: it does not know)."""

    reference: str
    asset: str
    amount: int
    price_usd: Decimal | None
    payer: str
    pay_to: str
    transaction: str
    block_number: int | None
    log_index: int | None
    payment: str
    state: str


@dataclass(frozen=True, slots=True)
class Unbooked:
    """A payment without a receipt, to which a transfer on the chain belongs."""

    payment: str
    state: str
    is_under_way: bool


@dataclass(frozen=True, slots=True)
class UnbookedTransfer:
    """The same, of a payment by the payer's own transfer; ``log_index`` is None until known."""

    asset: str
    payer: str
    pay_to: str
    log_index: int | None
    payment: Unbooked


def tokens_of(network: str) -> dict[str, Token]:
    """Every token that was or may be paid in on ``network``, by address."""
    found: dict[str, Token] = {}
    default = default_asset(network)
    configured = x402.network(network).assets
    known = [find_asset(network, asset.address) for asset in configured]
    for asset in (default, *known):
        if asset is not None:
            found[asset.address] = Token(asset.address, asset.symbol, asset.decimals)
    columns = ("asset", "asset_symbol", "asset_decimals")
    for rows in (PaymentMethod.objects.all(), Receipt.objects.order_by()):
        for address, symbol, decimals in (
            rows.filter(network=network).order_by().values_list(*columns).distinct()
        ):
            address = to_checksum_address(address)
            found.setdefault(address, Token(address, symbol, decimals))
    return found


def payees_of(network: str) -> set[str]:
    """Every address of ours that was or may be paid on ``network``."""
    found = {x402.pay_to} if x402.pay_to else set()
    for rows in (PaymentMethod.objects.all(), Receipt.objects.all()):
        found |= set(
            rows.filter(network=network).order_by().values_list("pay_to", flat=True).distinct()
        )
    return {to_checksum_address(address) for address in found}


def first_presented(network: str) -> datetime | None:
    """When the ledger's first payment on ``network`` was presented; None if it has none."""
    rows = Payment.objects.sales().filter(network=network).order_by("pk")
    return rows.values_list("created_at", flat=True).first()


def booked_in_blocks(network: str, first: int, last: int) -> Iterator[Booked]:
    """What the ledger has in these blocks, by block, streamed: receipts, claims from channels."""
    rows = _receipts(network).filter(payment__block_number__range=(first, last))
    claims = _claims(network).filter(block_number__range=(first, last))
    yield from merge(
        _stream(rows.order_by("payment__block_number", "pk")),
        map(
            _as_booked,
            claims.select_related("chain_transaction")
            .order_by("block_number", "pk")
            .iterator(chunk_size=CHUNK),
        ),
        key=lambda one: one.block_number or 0,
    )


def _receipts(network: str) -> QuerySet[Receipt]:
    """Those that have a transfer of their own: what was paid by channels is moved by claims."""
    return Receipt.objects.filter(network=network).exclude(payment__scheme=SCHEME_BATCH)


def _claims(network: str) -> QuerySet[ChannelClaim]:
    return ChannelClaim.objects.filter(network=network).exclude(state=ChannelClaim.State.FAILED)


def _as_booked(claim: ChannelClaim) -> Booked:
    """A claim from channels as if it were a receipt, of what the escrow has sent with it."""
    return Booked(
        reference=claim.public_id,
        asset=to_checksum_address(claim.asset),
        amount=int(claim.amount),
        price_usd=None,
        payer=ESCROW_ADDRESS,
        pay_to=to_checksum_address(claim.pay_to),
        transaction=claim.transaction or claim.chain_transaction.hash,
        block_number=claim.block_number,
        log_index=claim.log_index,
        payment=claim.public_id,
        state=claim.state,
    )


def booked_nowhere(
    network: str, since: datetime | None, until: datetime | None
) -> Iterator[Booked]:
    """The receipts issued in that time for which the ledger knows no block, streamed."""
    rows = _receipts(network).filter(payment__block_number__isnull=True)
    if since is not None:
        rows = rows.filter(issued_at__gte=since)
    if until is not None:
        rows = rows.filter(issued_at__lt=until)
    yield from _stream(rows.order_by("issued_at", "pk"))


def booked_by_transaction(network: str, hashes: Sequence[str]) -> dict[str, list[Booked]]:
    """The receipts of these transactions, at most ``CHUNK``, in the order they were issued."""
    found: dict[str, list[Booked]] = {}
    # Two queries for two indexes: a reversed payment names no transaction, its receipt still does.
    for condition in (
        Q(payment__transaction__in=hashes),
        Q(transaction__in=hashes, payment__transaction=""),
    ):
        for one in _stream(_receipts(network).filter(condition).order_by("pk")):
            found.setdefault(one.transaction, []).append(one)
    claims = _claims(network).select_related("chain_transaction")
    for claim in claims.filter(chain_transaction__hash__in=hashes).order_by("pk"):
        booked = _as_booked(claim)
        found.setdefault(booked.transaction, []).append(booked)
    return found


def unbooked_by_nonce(
    network: str, keys: Mapping[tuple[str, str, str], object]
) -> dict[tuple[str, str, str], Unbooked]:
    """Payments without a receipt by ``(asset, payer, nonce)``, for those of ``keys`` there are."""
    wanted = list(keys)
    found = {}
    for start in range(0, len(wanted), CHUNK):
        some = wanted[start : start + CHUNK]
        rows = Payment.objects.sales().filter(
            network=network,
            scheme=SCHEME_EXACT,
            asset__in={asset for asset, _, _ in some},
            payer__in={payer for _, payer, _ in some},
            nonce__in={nonce for _, _, nonce in some},
        )
        for asset, payer, nonce, one in _unbooked(
            rows, "asset", "payer", "nonce", patience=_patience()
        ):
            if (asset, payer, nonce) in keys:
                found[asset, payer, nonce] = one
    return found


def unbooked_by_transaction(
    network: str, hashes: Sequence[str]
) -> dict[str, list[UnbookedTransfer]]:
    """Payments by the payer's own transfer, in these transactions, that have no receipt.

    Those that hold a log come first, then those that are under way.
    """
    found: dict[str, list[UnbookedTransfer]] = {}
    for start in range(0, len(hashes), CHUNK):
        some = hashes[start : start + CHUNK]
        rows = Payment.objects.filter(
            network=network, scheme=SCHEME_TRANSFER, transaction__in=some
        ).order_by("pk")
        for transaction, *facts in _unbooked(
            rows, "transaction", "asset", "payer", "pay_to", "log_index", patience=_DEPTH_PATIENCE
        ):
            found.setdefault(transaction, []).append(UnbookedTransfer(*facts))
    for payments in found.values():
        payments.sort(key=lambda one: (one.log_index is None, not one.payment.is_under_way))
    return found


def unbooked_by_permit(
    network: str, transfers: Sequence[IncomingTransfer]
) -> dict[IncomingTransfer, Unbooked]:
    """Payments by Permit2 that have no receipt, for those of ``transfers`` that settle one.

    Nothing on chain names such a payment, so each that it might be is looked for in the
    transaction (see ``chain.methods``). Raises RpcUnavailable.
    """
    candidates: dict[tuple[str, str, str, int], list[Payment]] = {}
    payers = list({one.sender for one in transfers})
    for start in range(0, len(payers), CHUNK):
        rows = Payment.objects.sales().filter(
            network=network,
            verifying_contract=PERMIT2_ADDRESS,
            payer__in=payers[start : start + CHUNK],
            receipt__isnull=True,
        )
        for row in rows.defer("response_body").order_by("pk").iterator(chunk_size=CHUNK):
            candidates.setdefault((row.asset, row.payer, row.pay_to, row.amount), []).append(row)
    found = {}
    for one in transfers:
        for row in candidates.get((one.asset, one.sender, one.pay_to, one.value), ()):
            if _is_settled_by(row, one):
                found[one] = _as_unbooked(row.public_id, row.state, row.created_at, _patience())
                break
    return found


def _is_settled_by(payment: Payment, transfer: IncomingTransfer) -> bool:
    signed = SignedPayment.from_row(payment)
    receipt = read_receipt(payment.network, transfer.transaction)
    return receipt is not None and (
        paying_log(payment.network, receipt, signed) == transfer.log_index
    )


def _patience() -> timedelta:
    """How long an authorization is expected to take until its receipt."""
    return timedelta(seconds=x402.presumed_dead_after + 3 * x402.confirmation_interval)


def _unbooked(rows: PaymentQuerySet, *names: str, patience: timedelta) -> Iterator[Any]:
    columns = (*names, "public_id", "state", "created_at")
    for row in rows.filter(receipt__isnull=True).values_list(*columns):
        *values, public_id, state, created_at = row
        yield (*values, _as_unbooked(public_id, state, created_at, patience))


def _as_unbooked(public_id: str, state: str, created_at: datetime, patience: timedelta) -> Unbooked:
    is_open = state in (State.CLAIMED, State.VERIFIED, State.SETTLING)
    return Unbooked(public_id, state, is_open and created_at >= clock.now() - patience)


def _stream(rows: Any) -> Iterator[Booked]:
    for row in rows.values_list(*_FIELDS).iterator(chunk_size=CHUNK):
        reference, asset, amount, price, payer, pay_to, issued_for, *payment = row
        public_id, state, transaction, block_number, log_index = payment
        yield Booked(
            reference=reference,
            asset=to_checksum_address(asset),
            amount=amount,
            price_usd=price,
            payer=to_checksum_address(payer),
            pay_to=to_checksum_address(pay_to),
            transaction=transaction or issued_for,
            block_number=block_number,
            log_index=log_index,
            payment=public_id,
            state=state,
        )
