"""The merchant's data and the ledger."""

from x402_django.models.alerts import Alert
from x402_django.models.chain import (
    ChainTransaction,
    ChainTransactionItem,
    ReplacedTransaction,
    SettlementLane,
    SettlementWallet,
)
from x402_django.models.channels import (
    ChannelClaim,
    ChannelClaimItem,
    ChannelUse,
    PaymentChannel,
)
from x402_django.models.desk import (
    ChallengeCount,
    CountedDay,
    DailyGas,
    DailySales,
    DailyTally,
    DailyTop,
    Desk,
    DeskCursor,
)
from x402_django.models.fields import ExactSum, Uint256Field
from x402_django.models.holdings import CreditAccount, CreditEntry, HoldingUse, Pass
from x402_django.models.ledger import Payment, PaymentEvent, Receipt, ServicePayment
from x402_django.models.merchant import Membership, Merchant, MerchantDetails, MerchantPage
from x402_django.models.notices import ChainNotice
from x402_django.models.outgoing_webhooks import (
    WebhookAttempt,
    WebhookCursor,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookMessage,
)
from x402_django.models.periodic import PeriodicRun
from x402_django.models.previous_prices import PreviousPrice
from x402_django.models.prices import Flow, PaymentMethod, PriceRule, Scheme
from x402_django.models.receipt_numbers import NumberSeries, ReceiptNumber
from x402_django.models.refunds import Refund, RefundEvent, RefundReceipt
from x402_django.models.rule_quotas import FreeQuota
from x402_django.models.scan import ChainScan, ScannedBlock
from x402_django.models.service import FacilitatorKey, FacilitatorUsage, ListedResource
from x402_django.models.sign_ins import SpentNonce

__all__ = [
    "Alert",
    "ChainNotice",
    "ChainScan",
    "ChainTransaction",
    "ChainTransactionItem",
    "ChallengeCount",
    "ChannelClaim",
    "ChannelClaimItem",
    "ChannelUse",
    "CountedDay",
    "CreditAccount",
    "CreditEntry",
    "DailyGas",
    "DailySales",
    "DailyTally",
    "DailyTop",
    "Desk",
    "DeskCursor",
    "ExactSum",
    "FacilitatorKey",
    "FacilitatorUsage",
    "Flow",
    "FreeQuota",
    "HoldingUse",
    "ListedResource",
    "Membership",
    "Merchant",
    "MerchantDetails",
    "MerchantPage",
    "NumberSeries",
    "Pass",
    "Payment",
    "PaymentChannel",
    "PaymentEvent",
    "PaymentMethod",
    "PeriodicRun",
    "PreviousPrice",
    "PriceRule",
    "Receipt",
    "ReceiptNumber",
    "Refund",
    "RefundEvent",
    "RefundReceipt",
    "ReplacedTransaction",
    "ScannedBlock",
    "Scheme",
    "ServicePayment",
    "SettlementLane",
    "SettlementWallet",
    "SpentNonce",
    "Uint256Field",
    "WebhookAttempt",
    "WebhookCursor",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookMessage",
]
