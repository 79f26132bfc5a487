"""What a receipt says: who sold what to whom, when, for how much, and where that can be seen.

The seller is as at the time of sale (``models.merchant.MerchantDetails``). Everything is text: the
same fields are on the page, in the PDF and under the signature, but for the sentences in the
reader's language.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from x402_django.conf import x402
from x402_django.constants import SCHEME_TRANSFER
from x402_django.models import MerchantDetails, Payment, Receipt, RefundReceipt
from x402_django.pricing.grants import Grant
from x402_django.pricing.money import format_amount, format_usd
from x402_django.protocol.networks import display_name, explorer_transaction_url
from x402_django.receipts.numbers import number_of

if TYPE_CHECKING:
    from decimal import Decimal


#: Fields that are written in the reader's language, or by what is known today.
_SENTENCES: Final = frozenset({"bought", "usd_source", "network", "terms"})


@dataclass(frozen=True, slots=True)
class Document:
    """The fields of a receipt, in the order in which they are shown. ``issued_at`` is UTC."""

    kind: str
    number: str
    reference: str
    issued_at: str
    seller: str
    seller_address: str
    seller_tax_id: str
    seller_note: str
    buyer: str
    description: str
    bought: str
    resource: str
    amount: str
    amount_atomic: str
    token: str
    token_contract: str
    usd: str
    usd_source: str
    network: str
    network_id: str
    paid_from: str
    paid_to: str
    transaction: str
    terms: str
    refund_of: str = ""
    reason: str = ""

    def facts(self) -> dict[str, str]:
        """The fields by name that are the same in every language, for ever; what is signed."""
        return {name: text for name, text in asdict(self).items() if name not in _SENTENCES}

    @property
    def is_refund(self) -> bool:
        """Whether money went back."""
        return self.kind == "refund"

    @property
    def transaction_url(self) -> str:
        """Where a person can look at the transaction; empty if nobody knows."""
        return explorer_transaction_url(self.network_id, self.transaction) or ""


def document_of(receipt: Receipt | RefundReceipt) -> Document:
    """The document of a receipt, which is numbered now if it was not."""
    refund = receipt if isinstance(receipt, RefundReceipt) else None
    payment = receipt.refund.payment if isinstance(receipt, RefundReceipt) else receipt.payment
    sold = receipt if isinstance(receipt, Receipt) else None
    seller = MerchantDetails.objects.at(receipt.merchant, receipt.issued_at)
    return Document(
        kind="refund" if refund else "sale",
        number=number_of(receipt),
        reference=receipt.reference,
        issued_at=receipt.issued_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        seller=seller.name,
        seller_address=seller.address,
        seller_tax_id=seller.tax_id,
        seller_note=seller.note,
        buyer=receipt.payer,
        description=receipt.description,
        bought="" if refund else _bought(payment),
        resource=receipt.resource_url,
        amount=format_amount(receipt.amount, receipt.asset_decimals, receipt.asset_symbol),
        amount_atomic=str(receipt.amount),
        token=receipt.asset_symbol,
        token_contract=receipt.asset,
        usd="" if receipt.price_usd is None else format_usd(receipt.price_usd),
        usd_source=_usd_source(receipt.price_usd),
        network=display_name(receipt.network),
        network_id=receipt.network,
        paid_from=refund.sender if refund else receipt.payer,
        paid_to=sold.pay_to if sold else receipt.payer,
        transaction=receipt.transaction,
        terms="" if refund else _terms(payment),
        refund_of=payment.receipt.reference if refund else "",
        reason=refund.reason if refund else "",
    )


def receipt_url(receipt: Receipt | RefundReceipt) -> str:
    """The public address of a receipt's page; empty where the site does not include our URLs."""
    try:
        path = reverse("x402:receipt", kwargs={"reference": receipt.reference})
    except NoReverseMatch:
        return ""
    return f"{x402.base_url}{path}" if x402.base_url else path


def find_receipt(reference: str) -> Receipt | RefundReceipt | None:
    """The receipt of a sale or of a refund by its unguessable reference."""
    sold = Receipt.objects.filter(reference=reference)
    receipt: Receipt | None = sold.select_related("payment", "merchant").first()
    if receipt is not None:
        return receipt
    refunds = RefundReceipt.objects.filter(reference=reference)
    refund: RefundReceipt | None = refunds.select_related(
        "refund__payment__receipt", "merchant"
    ).first()
    return refund


def state_of(receipt: Receipt | RefundReceipt) -> str:
    """How it stands today: ``final``, ``settled`` (may still be undone), ``reversed``,
    ``refunded``, ``partly_refunded``."""
    if isinstance(receipt, RefundReceipt):
        return "final"
    payment = receipt.payment
    if payment.state == Payment.State.REFUNDED:
        return "refunded"
    if not payment.is_paid:
        return "reversed"
    if payment.refunds.filter(state="final").exists():
        return "partly_refunded"
    return "final" if payment.state == Payment.State.FINAL else "settled"


def _bought(payment: Payment) -> str:
    if payment.grant is not None:
        return Grant.from_json(payment.grant).in_words()
    return _("one request (%(method)s)") % {"method": payment.request_method}


def _usd_source(price: Decimal | None) -> str:
    if price is None:
        return _("The price was set in the token; no value in dollars was stated.")
    return _("The seller’s price in US dollars; one token was taken for one dollar.")


def _terms(payment: Payment) -> str:
    if payment.scheme == SCHEME_TRANSFER:
        return _("Paid by the buyer’s own transfer.")
    return _("Paid by x402 version %(version)s, scheme “%(scheme)s”.") % {
        "version": payment.x402_version,
        "scheme": payment.scheme,
    }
