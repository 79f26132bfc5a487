"""The merchant's data and the ledger."""

from x402_django.models.chain import (
    ChainTransaction,
    ChainTransactionItem,
    ReplacedTransaction,
    SettlementLane,
    SettlementWallet,
)
from x402_django.models.fields import ExactSum, Uint256Field
from x402_django.models.ledger import Payment, PaymentEvent, Receipt
from x402_django.models.merchant import Flow, PaymentMethod, PriceRule, Scheme
from x402_django.models.scan import ChainScan, ScannedBlock

__all__ = [
    "ChainScan",
    "ChainTransaction",
    "ChainTransactionItem",
    "ExactSum",
    "Flow",
    "Payment",
    "PaymentEvent",
    "PaymentMethod",
    "PriceRule",
    "Receipt",
    "ReplacedTransaction",
    "ScannedBlock",
    "Scheme",
    "SettlementLane",
    "SettlementWallet",
    "Uint256Field",
]
