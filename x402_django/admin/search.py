"""Search that knows which index answers: exact names and prefixes, never ``LIKE '%…%'``.

Django's admin search compares ``UPPER(column)``, which no index of ours serves. What people paste
here can be told apart by its form, so each form asks one column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Q

from x402_django.models import ChainTransaction, Payment
from x402_django.protocol.assets import is_address, to_checksum_address
from x402_django.protocol.base58 import is_solana_address, is_solana_transaction

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: A transaction hash or an authorization nonce.
_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")
#: The beginning of an address, as it is shown: at least so much that it finds few.
_ADDRESS_PREFIX: Final = re.compile(r"0x[0-9a-fA-F]{4,39}")
#: A public id or reference, whole or its beginning.
_PUBLIC_ID: Final = re.compile(r"[0-9a-f]{6,40}")
#: A receipt's number, with or without the zeros: ``2026-000017``.
_RECEIPT_NUMBER: Final = re.compile(r"([0-9]{4})-([0-9]{1,18})", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
#: Sorts after every hexadecimal digit, in every collation.
_AFTER_HEX: Final = "g"


def search_payments(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Payments by public id, payer, transaction hash or authorization nonce."""
    if _HASH.fullmatch(term):
        return _by_transaction_or_nonce(queryset, term.lower())
    if is_solana_transaction(term):
        return queryset.filter(transaction=term)
    return _by_address_or_id(queryset, term, "public_id")


def search_receipts(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Receipts by number, reference, payer or transaction hash."""
    numbered = _RECEIPT_NUMBER.fullmatch(term)
    if numbered is not None:
        year, number = map(int, numbered.groups())
        return queryset.filter(numbered__year=year, numbered__number=number)
    if _HASH.fullmatch(term):
        return queryset.filter(transaction=term.lower())
    if is_solana_transaction(term):
        return queryset.filter(transaction=term)
    return _by_address_or_id(queryset, term, "reference")


def search_chain_transactions(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Chain transactions by hash."""
    return queryset.filter(hash=term.lower()) if _HASH.fullmatch(term) else queryset.none()


def search_events(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Events by their payment's public id, payer, transaction hash or nonce."""
    payments = search_payments(Payment.objects.all(), term)
    return queryset.filter(payment__in=payments.values("pk"))


def search_chain_items(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Places in transactions by a transaction's hash, or as the payments that have them."""
    if _HASH.fullmatch(term):
        rows = ChainTransaction.objects.filter(hash=term.lower()).order_by()
        if rows.exists():
            return queryset.filter(chain_transaction__in=rows.values("pk"))
    return search_events(queryset, term)


def search_scanned_blocks(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Blocks by number or hash."""
    if _HASH.fullmatch(term):
        return queryset.filter(hash=term.lower())
    return queryset.filter(number=int(term)) if _NUMBER.fullmatch(term) else queryset.none()


def _by_transaction_or_nonce(queryset: QuerySet[Any], digest: str) -> QuerySet[Any]:
    by_transaction = Q(transaction=digest)
    if queryset.order_by().filter(by_transaction).exists():
        return queryset.filter(by_transaction)
    # A nonce is the last column of its unique index. The subquery reads that index and not the
    # wide rows; the database then fetches the one or two that match.
    nonces = Payment.objects.filter(nonce=digest).order_by()
    return queryset.filter(pk__in=nonces.values("pk"))


def _by_address_or_id(queryset: QuerySet[Any], term: str, id_field: str) -> QuerySet[Any]:
    if is_solana_address(term):
        return queryset.filter(payer=term)
    if is_address(term):
        return queryset.filter(payer=to_checksum_address(term))
    if _ADDRESS_PREFIX.fullmatch(term):
        return _by_prefix(queryset, "payer", term)
    if _PUBLIC_ID.fullmatch(term):
        return _by_prefix(queryset, id_field, term)
    return queryset.none()


def _by_prefix(queryset: QuerySet[Any], field: str, prefix: str) -> QuerySet[Any]:
    """The range is for the index, whatever the collation; ``startswith`` says what is meant."""
    return queryset.filter(
        **{
            f"{field}__gte": prefix,
            f"{field}__lt": prefix + _AFTER_HEX,
            f"{field}__startswith": prefix,
        }
    )
