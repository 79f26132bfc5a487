"""The form of a PaymentMethod: known tokens by name, addresses that are checked.

Choosing a token fills what the token decides (network, contract, symbol, EIP-712 domain,
decimals): in the browser at once where scripts run, and in ``clean`` in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from x402_django.admin.display import network_label, plain
from x402_django.admin.scoping import MerchantFormMixin
from x402_django.conf import x402
from x402_django.facilitators.base import facilitator_class
from x402_django.models import PaymentMethod
from x402_django.models.prices import Scheme, TransferMethod
from x402_django.protocol import assets, networks
from x402_django.protocol.assets import KnownAsset
from x402_django.protocol.base58 import is_solana_address, is_solana_available

_ZERO_ADDRESS = "0x" + "0" * 40

#: Fields of the form that a known token decides, and its attribute.
_TOKEN_FIELDS = {
    "network": "network",
    "asset": "address",
    "asset_symbol": "symbol",
    "asset_name": "name",
    "asset_version": "version",
    "asset_decimals": "decimals",
}

#: Those of them that tokens on Solana do not have.
_DOMAIN_FIELDS = ("asset_name", "asset_version")

#: Fields in whole tokens.
AMOUNT_FIELDS = ("fee_amount", "fee_percent", "minimum_amount", "maximum_amount")


def _token_key(network: str, address: str) -> str:
    return f"{network}/{address}"


def _known_tokens() -> tuple[list[KnownAsset], list[KnownAsset]]:
    """Known tokens of the configured networks, and those of the others."""
    configured = [token for name in x402.networks for token in assets.known_assets(name)]
    others = [
        token
        for known in networks.known_networks()
        if known.network not in x402.networks
        for token in assets.known_assets(known.network)
    ]
    return configured, others


class TokenSelect(forms.Select):
    """A select whose options carry what the script fills in, as ``data-`` attributes."""

    tokens: Mapping[str, KnownAsset] = MappingProxyType({})

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **kwargs)
        token = self.tokens.get(str(value))
        if token is not None:
            for form_field, attribute in _TOKEN_FIELDS.items():
                key = f"data-{form_field.replace('_', '-')}"
                option["attrs"][key] = str(getattr(token, attribute))
        return option


class PaymentMethodForm(MerchantFormMixin, forms.ModelForm):  # type: ignore[type-arg]
    """See the module's docstring."""

    known_token = forms.ChoiceField(
        label=_("Known token"),
        required=False,
        widget=TokenSelect,
        help_text=_("Fills in the fields below. Or leave it and describe another token yourself."),
    )
    facilitator = forms.ChoiceField(
        label=_("Facilitator"),
        help_text=_("Verifies and settles; configured in X402['FACILITATORS']."),
    )

    class Meta:
        model = PaymentMethod
        fields = (
            *("merchant", "name", "active", "priority", *_TOKEN_FIELDS, "pay_to", "facilitator"),
            *("scheme", "transfer_method", "sponsoring", "transfer_proofs", *AMOUNT_FIELDS),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        configured, others = _known_tokens()
        self.tokens = {_token_key(t.network, t.address): t for t in (*configured, *others)}
        if "network" in self.fields:  # not where somebody may only look
            self._offer_tokens(configured, others)
        self._offer_facilitators()
        self._offer_amounts()

    def _offer_tokens(self, configured: list[KnownAsset], others: list[KnownAsset]) -> None:
        field = cast("forms.ChoiceField", self.fields["known_token"])
        choices: list[Any] = [("", _("Another token"))]
        for title, tokens in (
            (_("On this site's networks"), configured),
            (_("On networks that the settings do not have yet"), others),
        ):
            if tokens:
                choices.append(
                    (title, [(_token_key(t.network, t.address), _label(t)) for t in tokens])
                )
        cast("TokenSelect", field.widget).tokens = self.tokens
        field.choices = choices
        key = _token_key(self.instance.network, self.instance.asset)
        self.initial.setdefault("known_token", key if key in self.tokens else "")
        for name in _TOKEN_FIELDS:
            self.fields[name].required = False  # a known token may fill it; clean() insists

    def _offer_facilitators(self) -> None:
        aliases = list(x402.facilitators)
        choices = [(alias, alias) for alias in aliases]
        current = self.instance.facilitator
        if self.instance.pk and current not in aliases:
            gone = gettext("%(alias)s (no longer in the settings)") % {"alias": current}
            choices.append((current, gone))
        cast("forms.ChoiceField", self.fields["facilitator"]).choices = choices

    def _offer_amounts(self) -> None:
        for name in AMOUNT_FIELDS:
            if name in self.fields:
                self.fields[name].required = False
                stored = getattr(self.instance, name)
                if stored is not None:
                    self.initial[name] = plain(stored)

    def clean_facilitator(self) -> str:
        alias = str(self.cleaned_data["facilitator"])
        if alias not in x402.facilitators:
            raise ValidationError(
                _("X402['FACILITATORS'] has no entry “%(alias)s” any more. Choose another."),
                code="unknown_facilitator",
                params={"alias": alias},
            )
        return alias

    def clean(self) -> dict[str, Any]:
        super().clean()
        self._fill_from_known_token()
        is_solana = networks.is_solana(self.cleaned_data.get("network") or "")
        if is_solana:
            self.cleaned_data["transfer_method"] = TransferMethod.SOLANA
        elif self.cleaned_data.get("scheme") == Scheme.BATCH:
            self.cleaned_data["transfer_method"] = TransferMethod.CHANNEL
            self._check_claimant()
        for name in _TOKEN_FIELDS:
            if is_solana and name in _DOMAIN_FIELDS:
                self.cleaned_data[name] = ""
            elif name not in self.errors and self.cleaned_data.get(name) in (None, ""):
                self.add_error(name, self.fields[name].error_messages["required"])
        self._check_network()
        self._check_transfer_proofs()
        self._check_amounts()
        for name in ("asset", "pay_to"):
            self._check_address(name)
        pay_to, asset = self.cleaned_data.get("pay_to"), self.cleaned_data.get("asset")
        if pay_to and pay_to == asset:
            self.add_error(
                "pay_to",
                _("This is the token contract itself; what is paid to it is lost. Enter your own."),
            )
        return self.cleaned_data

    def _check_claimant(self) -> None:
        """Channels are claimed from by the wallet that they name, so it must be one of ours."""
        alias = self.cleaned_data.get("facilitator")
        if alias and not facilitator_class(alias).spends_gas:
            self.add_error(
                "facilitator",
                ValidationError(
                    _(
                        "Payment channels are claimed from by a wallet of this site. Choose a "
                        "facilitator that settles from one, a LocalFacilitator."
                    ),
                    code="no_claimant",
                ),
            )

    def _fill_from_known_token(self) -> None:
        # Only a token that was chosen just now: one that merely stood there must not undo what
        # was typed below it.
        token = self.tokens.get(self.cleaned_data.get("known_token") or "")
        if token is None or "known_token" not in self.changed_data:
            return
        for name, attribute in _TOKEN_FIELDS.items():
            self.cleaned_data[name] = getattr(token, attribute)
            self.errors.pop(name, None)

    def _check_network(self) -> None:
        network = self.cleaned_data.get("network") or ""
        if not networks.is_solana(network) and not networks.is_evm(network):
            return  # missing, or refused by the field's own validator
        if networks.is_solana(network) and not is_solana_available():
            self.add_error("network", _("Payments on Solana need x402-django[svm] installed."))
        elif network not in x402.networks:
            self.add_error(
                "network",
                ValidationError(
                    _(
                        "This site does not have %(label)s. Add to the settings: "
                        'X402["NETWORKS"]["%(network)s"] = {"RPC_URLS": ["https://…"]}'
                    ),
                    code="unknown_network",
                    params={"label": network_label(network), "network": network},
                ),
            )

    def _check_transfer_proofs(self) -> None:
        network = x402.networks.get(self.cleaned_data.get("network") or "")
        if network is None or network.has_rpc or not self.cleaned_data.get("transfer_proofs"):
            return
        self.add_error(
            "transfer_proofs",
            ValidationError(
                _(
                    "A transfer can only be proven on a network that this site can read. Add "
                    'RPC_URLS to X402["NETWORKS"]["%(network)s"] in the settings.'
                ),
                code="unreadable_network",
                params={"network": network.network},
            ),
        )

    def _check_amounts(self) -> None:
        for name in ("fee_amount", "fee_percent"):
            if name not in self.errors and self.cleaned_data.get(name) is None:
                self.cleaned_data[name] = Decimal(0)
        decimals = self.cleaned_data.get("asset_decimals")
        for name in ("fee_amount", "minimum_amount", "maximum_amount"):
            amount = self.cleaned_data.get(name)
            if decimals is not None and amount and amount != round(amount, decimals):
                self.add_error(
                    name,
                    _("The token has no more than %(decimals)s decimals.") % {"decimals": decimals},
                )

    def _check_address(self, name: str) -> None:
        address = self.cleaned_data.get(name)
        network = self.cleaned_data.get("network") or ""
        is_solana = networks.is_solana(network)
        if not address or not (
            is_solana or is_solana_address(address) or assets.is_address(address)
        ):
            return  # missing, or refused by the field's own validator
        if is_solana != is_solana_address(address):
            self.add_error(name, _("This is not an address on that network."))
        elif is_solana:
            return  # base58 as it is: a mistyped letter is another address, or none
        elif not assets.has_valid_checksum(address):
            self.add_error(name, _checksum_error(address))
        elif address.lower() == _ZERO_ADDRESS:
            self.add_error(name, _("This is the zero address: what is paid to it is lost."))
        else:
            self.cleaned_data[name] = assets.to_checksum_address(address)


def _label(token: KnownAsset) -> str:
    return gettext("%(symbol)s on %(network)s") % {
        "symbol": token.symbol,
        "network": network_label(token.network),
    }


def _checksum_error(address: str) -> ValidationError:
    return ValidationError(
        _(
            "The capital letters do not fit this address, so a character may be wrong. Compare "
            "it with the original. If every digit is right, write it as %(address)s."
        ),
        code="checksum",
        params={"address": assets.to_checksum_address(address)},
    )
