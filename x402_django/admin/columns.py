"""Columns that payments, receipts and channels share: who paid whom, and where to see it."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from x402_django.admin import display
from x402_django.models import ChannelClaim, Payment, PaymentChannel, Receipt
from x402_django.protocol import networks

OnChain = Payment | Receipt | PaymentChannel | ChannelClaim


class ChainColumns:
    """For the admin of a row with a network, token, payee and transaction."""

    @admin.display(description=_("paid to"))
    def pay_to_link(self, row: OnChain) -> SafeString | str:
        return display.address_link(row.network, row.pay_to)

    @admin.display(description=_("network"))
    def network_short(self, row: OnChain) -> str:
        return networks.display_name(row.network)

    @admin.display(description=_("network"))
    def network_shown(self, row: OnChain) -> str:
        return display.network_label(row.network)

    @admin.display(description=_("token contract"))
    def token_link(self, row: OnChain) -> SafeString | str:
        return display.address_link(row.network, row.asset)

    @admin.display(description=_("transaction"))
    def transaction_shown(self, row: OnChain) -> SafeString | str:
        return display.transaction_link(row.network, row.transaction)


class MoneyColumns(ChainColumns):
    """And with an amount and a payer."""

    @admin.display(description=_("amount"))
    def amount_shown(self, row: Payment | Receipt) -> str:
        return display.amount(row)

    @admin.display(description=_("US dollars"))
    def usd_shown(self, row: Payment | Receipt) -> str:
        return display.usd(row.price_usd)

    @admin.display(description=_("payer"))
    def payer_short(self, row: Payment | Receipt) -> SafeString | str:
        return display.shorten(row.payer)

    @admin.display(description=_("payer"))
    def payer_link(self, row: Payment | Receipt) -> SafeString | str:
        return display.address_link(row.network, row.payer)

    @admin.display(description=_("resource"))
    def resource_short(self, row: Payment | Receipt) -> SafeString:
        return format_html(
            '<span class="x402-resource" title="{}">{}</span>',
            row.resource_url,
            display.path_of(row.resource_url),
        )
