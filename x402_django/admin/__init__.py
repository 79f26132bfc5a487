"""The merchant's desk: prices and ways of being paid to edit, money to look at.

===================  ======================================================================
``desk``             the dashboard; its parts are in ``desk_panels`` and ``desk_tables``
``merchants``        who sells, who works for them, and which pages are theirs
``scoping``          whose rows somebody sees
``payment_methods``  the form of a PaymentMethod, with known tokens by name
``price_rules``      the form of a PriceRule, with the site's pages and a live preview
``preview``          the 402 that a rule would produce, through the real pricing code
``routes``           the site's named routes, to choose pages from
``payments``         payments and their events: read-only
``webhooks``         outgoing webhooks: endpoints, and the log of deliveries
``service``          the facilitator service: its keys, what it settled, what it lists
``exporting``        receipts and gas of a period, as files
``receipts``         receipts: read-only, made to be printed
``refunds``          refunds: asked for, approved, followed, with their receipts
``holdings``         passes and credits that were sold, and their uses
``channels``         payment channels, and the claims from them: read-only
``chain``            settlement wallets and their transactions: read-only
``queue``            payments that wait for a transaction, and who sends them: read-only
``scanning``         how far the chains were read, and whether the periodic tasks run: read-only
``wallet_warning``   a word above the lists while a wallet runs dry
``filters``          filters whose choices need no query
``search``           searches that an index answers
``columns``          columns that payments, receipts and channels share
``read_only``        what "read-only by permission" means, once
``change_list``      lists that stay fast over a million rows
``history``          the action log of prices and payment methods, with old and new values
``display``          amounts, addresses and links as people read them
===================  ======================================================================
"""

from x402_django.admin.chain import ChainTransactionAdmin, SettlementWalletAdmin
from x402_django.admin.channels import ChannelClaimAdmin, PaymentChannelAdmin
from x402_django.admin.desk import DeskAdmin
from x402_django.admin.holdings import CreditAccountAdmin, HoldingUseAdmin, PassAdmin
from x402_django.admin.merchants import MerchantAdmin
from x402_django.admin.payment_methods import PaymentMethodAdmin
from x402_django.admin.payments import PaymentAdmin, PaymentEventAdmin
from x402_django.admin.price_rules import PriceRuleAdmin
from x402_django.admin.queue import ChainTransactionItemAdmin, SettlementLaneAdmin
from x402_django.admin.receipts import ReceiptAdmin
from x402_django.admin.refunds import RefundAdmin, RefundReceiptAdmin
from x402_django.admin.scanning import (
    AlertAdmin,
    ChainScanAdmin,
    PeriodicRunAdmin,
    ScannedBlockAdmin,
)
from x402_django.admin.service import (
    FacilitatorKeyAdmin,
    ListedResourceAdmin,
    ServicePaymentAdmin,
)
from x402_django.admin.webhooks import WebhookDeliveryAdmin, WebhookEndpointAdmin

__all__ = [
    "AlertAdmin",
    "ChainScanAdmin",
    "ChainTransactionAdmin",
    "ChainTransactionItemAdmin",
    "ChannelClaimAdmin",
    "CreditAccountAdmin",
    "DeskAdmin",
    "FacilitatorKeyAdmin",
    "HoldingUseAdmin",
    "ListedResourceAdmin",
    "MerchantAdmin",
    "PassAdmin",
    "PaymentAdmin",
    "PaymentChannelAdmin",
    "PaymentEventAdmin",
    "PaymentMethodAdmin",
    "PeriodicRunAdmin",
    "PriceRuleAdmin",
    "ReceiptAdmin",
    "RefundAdmin",
    "RefundReceiptAdmin",
    "ScannedBlockAdmin",
    "ServicePaymentAdmin",
    "SettlementLaneAdmin",
    "SettlementWalletAdmin",
    "WebhookDeliveryAdmin",
    "WebhookEndpointAdmin",
]
