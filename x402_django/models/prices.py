"""What a merchant edits: ways of being paid, and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from x402_django.constants import (
    DEFAULT_MERCHANT,
    EFFECT_FREE,
    FLOW_AUTHORIZATION,
    FLOW_DEFERRED,
    FLOW_UPFRONT,
    MAX_SESSION_ACCESS,
    SCHEME_BATCH,
    SCHEME_EXACT,
    SCHEME_UPTO,
    SPONSOR_EIP2612,
    SPONSOR_ERC20_APPROVAL,
    TRANSFER_CHANNEL,
    TRANSFER_EIP3009,
    TRANSFER_PERMIT2,
    TRANSFER_SOLANA,
)
from x402_django.models.fields import Uint256Field
from x402_django.models.merchant import Merchant
from x402_django.models.previous_prices import PriceRuleQuerySet, keeping_price
from x402_django.models.rule_conditions import HasConditions, condition_constraints
from x402_django.models.rule_discounts import HasDiscounts
from x402_django.models.rule_grants import SellsGrants, grant_constraints
from x402_django.models.rule_quotas import HasQuota

validate_caip2 = RegexValidator(
    r"^(eip155:[1-9][0-9]{0,31}|solana:[1-9A-HJ-NP-Za-km-z]{32})$",
    _("Enter a CAIP-2 name, such as eip155:8453; of EVM networks or of Solana."),
)
validate_address = RegexValidator(
    r"^(0x[0-9a-fA-F]{40}|[1-9A-HJ-NP-Za-km-z]{32,44})$",
    _("Enter an address: 0x and 40 hexadecimal digits, or base58 on Solana."),
)


class Flow(models.TextChoices):
    """When the money moves, relative to the view (DESIGN section 4)."""

    AUTHORIZATION = FLOW_AUTHORIZATION, _("Settle after the view; a failed view costs nothing")
    UPFRONT = FLOW_UPFRONT, _("Settle before the view; for side effects and long work")
    DEFERRED = FLOW_DEFERRED, _("Settle later, in batches; for micropayments of known payers")


class Scheme(models.TextChoices):
    """x402 payment schemes this version settles."""

    EXACT = SCHEME_EXACT, _("exact: pay precisely the price")
    UPTO = SCHEME_UPTO, _("upto: authorize the price, pay what was used")
    BATCH = SCHEME_BATCH, _("batch-settlement: deposit once, pay by vouchers of a channel")


class TransferMethod(models.TextChoices):
    """How the money is moved (the protocol's ``assetTransferMethod``)."""

    EIP3009 = TRANSFER_EIP3009, _("EIP-3009: the token moves it by the payer's signature")
    PERMIT2 = TRANSFER_PERMIT2, _("Permit2: for any token that the payer has approved for it")
    CHANNEL = TRANSFER_CHANNEL, _("Channel: a deposit by EIP-3009, and vouchers for it")
    SOLANA = TRANSFER_SOLANA, _("Solana: a transaction that the facilitator signs, too, and sends")


class Sponsoring(models.TextChoices):
    """Who pays for approving Permit2, by the name of the protocol's extension."""

    EIP2612 = SPONSOR_EIP2612, _("We, by EIP-2612 permit; the token must know it")
    ERC20_APPROVAL = SPONSOR_ERC20_APPROVAL, _("We, as a gift of gas to the payer; for any token")


class PaymentMethod(models.Model):
    """A way of being paid: scheme, network, asset, payee and who settles.

    ``asset_name`` and ``asset_version`` are the token's EIP-712 domain: what the payer signs
    over. They are the merchant's data, never taken from a client.
    """

    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        default=DEFAULT_MERCHANT,
        on_delete=models.PROTECT,
        related_name="payment_methods",
    )
    name = models.CharField(_("name"), max_length=100)
    scheme = models.CharField(_("scheme"), max_length=32, choices=Scheme, default=Scheme.EXACT)
    network = models.CharField(
        _("network"),
        max_length=64,
        validators=[validate_caip2],
        help_text=_("CAIP-2 name, for example eip155:8453 for Base."),
    )
    asset = models.CharField(_("token contract"), max_length=44, validators=[validate_address])
    asset_symbol = models.CharField(_("token symbol"), max_length=16)
    asset_name = models.CharField(
        _("token EIP-712 name"),
        max_length=100,
        blank=True,
        help_text=_("As the token contract's name(). Not on Solana."),
    )
    asset_version = models.CharField(
        _("token EIP-712 version"),
        max_length=16,
        blank=True,
        help_text=_("As the token's version(). Not on Solana."),
    )
    asset_decimals = models.PositiveSmallIntegerField(_("token decimals"), default=6)
    transfer_method = models.CharField(
        _("transfer method"),
        max_length=16,
        choices=TransferMethod,
        default=TransferMethod.EIP3009,
        help_text=_("Most tokens but USDC and EURC know Permit2 only."),
    )
    sponsoring = models.CharField(
        _("approval of Permit2"),
        max_length=32,
        choices=Sponsoring,
        blank=True,
        help_text=_("Empty: payers approve Permit2 themselves, and pay the gas of it."),
    )
    pay_to = models.CharField(_("pay to"), max_length=44, validators=[validate_address])
    facilitator = models.CharField(
        _("facilitator"),
        max_length=64,
        default="default",
        help_text=_("Alias in X402['FACILITATORS'] that verifies and settles."),
    )
    transfer_proofs = models.BooleanField(
        _("take transfer proofs"),
        default=False,
        help_text=_("Also take a transfer that the payer made itself and proves by its hash."),
    )
    fee_amount = models.DecimalField(
        _("fee in tokens"),
        max_digits=26,
        decimal_places=8,
        default=Decimal(0),
        validators=[MinValueValidator(0)],
        help_text=_("Added to every price paid this way, for the gas; 0.002 is 0.002 USDC."),
    )
    fee_percent = models.DecimalField(
        _("fee in percent"),
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(0)],
        help_text=_("Of the price; added to it as well, rounded up."),
    )
    minimum_amount = models.DecimalField(
        _("minimum in tokens"),
        max_digits=26,
        decimal_places=8,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=_("Where price and fee are less, this way of being paid is not offered."),
    )
    maximum_amount = models.DecimalField(
        _("maximum in tokens"),
        max_digits=26,
        decimal_places=8,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=_("Where price and fee are more, this way of being paid is not offered."),
    )
    priority = models.SmallIntegerField(
        _("priority"), default=0, help_text=_("Higher is offered first.")
    )
    active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("payment method")
        verbose_name_plural = _("payment methods")
        ordering = ["-priority", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["merchant", "name"], name="x402_method_name_uniq"),
            models.CheckConstraint(
                condition=~Q(scheme=SCHEME_UPTO) | Q(transfer_method=TRANSFER_PERMIT2),
                name="x402_method_upto_permit2",
                violation_error_message=_("The scheme “upto” needs the transfer method Permit2."),
            ),
            models.CheckConstraint(
                condition=Q(scheme=SCHEME_BATCH, transfer_method=TRANSFER_CHANNEL)
                | ~Q(scheme=SCHEME_BATCH) & ~Q(transfer_method=TRANSFER_CHANNEL),
                name="x402_method_batch_channel",
                violation_error_message=_(
                    "The scheme “batch-settlement” needs the transfer method Channel, and no other "
                    "has it."
                ),
            ),
            models.CheckConstraint(
                condition=Q(sponsoring="") | Q(transfer_method=TRANSFER_PERMIT2),
                name="x402_method_sponsors_permit2",
                violation_error_message=_("Only an approval of Permit2 can be paid for."),
            ),
            models.CheckConstraint(
                condition=Q(network__startswith="solana:", transfer_method=TRANSFER_SOLANA)
                | ~Q(network__startswith="solana:") & ~Q(transfer_method=TRANSFER_SOLANA),
                name="x402_method_solana",
                violation_error_message=_(
                    "The transfer method “Solana” is for networks of Solana, and for those alone."
                ),
            ),
            models.UniqueConstraint(
                fields=["merchant", "scheme", "transfer_method", "network", "asset", "pay_to"],
                name="x402_method_uniq",
                violation_error_message=_("This way of being paid exists already."),
            ),
            models.CheckConstraint(
                condition=Q(minimum_amount__isnull=True)
                | Q(maximum_amount__isnull=True)
                | Q(minimum_amount__lte=F("maximum_amount")),
                name="x402_method_bounds",
                violation_error_message=_("The minimum must not be more than the maximum."),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PriceRule(HasConditions, HasDiscounts, HasQuota, SellsGrants, models.Model):
    """What the merchant charges for views, as a row.

    A rule applies to a view that names its ``key`` in code, or whose URL name is in
    ``url_names``; among the rules in force for a request the highest ``priority`` wins, then
    the older row.
    """

    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        default=DEFAULT_MERCHANT,
        on_delete=models.PROTECT,
        related_name="price_rules",
    )
    name = models.CharField(_("name"), max_length=100)
    key = models.SlugField(
        _("key"),
        max_length=100,
        blank=True,
        db_index=False,  # named in Meta
        help_text=_("Named in code: @payment_required(rule=“…”)."),
    )
    url_names = models.JSONField(
        _("pages"),
        default=list,
        blank=True,
        help_text=_("Names of the site's own routes that this price applies to."),
    )
    methods = models.JSONField(
        _("HTTP methods"), default=list, blank=True, help_text=_("Empty: every method.")
    )
    price_usd = models.DecimalField(
        _("price in US dollars"),
        max_digits=18,
        decimal_places=8,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
    )
    token_amount = Uint256Field(
        _("price in token units"),
        null=True,
        blank=True,
        help_text=_("In the token's smallest unit; instead of a price in dollars."),
    )
    unit_price_usd = models.DecimalField(
        _("price of one unit in US dollars"),
        max_digits=24,
        decimal_places=16,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=_(
            "For the scheme “upto”: what one unit costs, such as a token of a language model. "
            "The price above is then the most that is paid."
        ),
    )
    description = models.CharField(
        _("description"), max_length=500, blank=True, help_text=_("Shown to the payer.")
    )
    mime_type = models.CharField(_("MIME type"), max_length=100, blank=True)
    payment_methods = models.ManyToManyField(
        PaymentMethod,
        verbose_name=_("payment methods"),
        blank=True,
        related_name="price_rules",
        help_text=_("None chosen: every active payment method."),
    )
    flow = models.CharField(
        _("payment flow"),
        max_length=16,
        choices=Flow,
        blank=True,
        help_text=_("Empty: settle after the view for GET and HEAD, before it otherwise."),
    )
    session_access = models.PositiveIntegerField(
        _("session access in seconds"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(MAX_SESSION_ACCESS)],
        help_text=_(
            "For how long the browser of a person who has paid may come back without paying "
            "again. 0: not at all. Empty: as the code says, or not at all."
        ),
    )
    identifier_required = models.BooleanField(
        _("payment identifier required"),
        null=True,
        blank=True,
        help_text=_(
            "Whether payments without an identifier of the buyer's own are refused. With one, a "
            "buyer whose answer was lost never pays twice. Unknown: as the code or settings say."
        ),
    )
    priority = models.IntegerField(_("priority"), default=0, help_text=_("Higher wins."))
    active = models.BooleanField(_("active"), default=True)
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = PriceRuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("price rule")
        verbose_name_plural = _("price rules")
        ordering = ["-priority", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["merchant", "name"], name="x402_rule_name_uniq"),
            models.CheckConstraint(
                condition=Q(price_usd__isnull=False, token_amount__isnull=True)
                | Q(price_usd__isnull=True, token_amount__isnull=False)
                | Q(effect=EFFECT_FREE, price_usd__isnull=True, token_amount__isnull=True),
                name="x402_rule_one_price",
                violation_error_message=_(
                    "Give either a price in US dollars or a price in token units."
                ),
            ),
            models.CheckConstraint(
                condition=Q(valid_from__isnull=True)
                | Q(valid_until__isnull=True)
                | Q(valid_from__lt=F("valid_until")),
                name="x402_rule_period",
                violation_error_message=_("“Valid from” must be before “valid until”."),
            ),
            *grant_constraints(),
            *condition_constraints(),
        ]
        indexes = [models.Index(fields=["key"], name="x402_rule_key_idx")]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As ``Model.save``; a price that this replaces is kept (see ``PreviousPrice``)."""
        with keeping_price(self, kwargs.get("using"), kwargs.get("update_fields")):
            super().save(*args, **kwargs)
