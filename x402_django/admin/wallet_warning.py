"""A word above the ledger's lists while a settlement wallet runs dry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db.models import F
from django.utils.translation import gettext as _

from x402_django.admin.base import ModelAdmin
from x402_django.admin.display import network_label
from x402_django.admin.scoping import merchants_of
from x402_django.models import SettlementWallet
from x402_django.pricing.money import format_amount

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

_WEI_DECIMALS = 18


class WarnsOfLowWallets(ModelAdmin):  # type: ignore[type-arg]
    """For lists that those look at who can fill a wallet up, and may see the wallets."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_see = request.user.has_perm("x402_django.view_settlementwallet")
        if may_see and merchants_of(request) is None:
            for wallet in SettlementWallet.objects.filter(balance__lt=F("low_balance")):
                messages.warning(request, _sentence(wallet))
        return super().changelist_view(request, extra_context)


def _sentence(wallet: SettlementWallet) -> str:
    return _(
        "The settlement wallet %(wallet)s on %(network)s has only %(coins)s left for gas. "
        "When it is empty, nothing is sold there: send it some of the network's coin."
    ) % {
        "wallet": wallet.address,
        "network": network_label(wallet.network),
        "coins": format_amount(wallet.balance or 0, _WEI_DECIMALS),
    }
