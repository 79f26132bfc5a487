"""Payment channels: what a payer has deposited, what of it is spent, and what was claimed.

A channel's row counts what the chain does not know yet. It is written under its ``version``, so
that of several writers with the same view one wins, and kept for ever: vouchers grow, and a channel
that was forgotten could be spent a second time.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from x402_django.constants import DEFAULT_MERCHANT
from x402_django.models.chain import ChainTransaction
from x402_django.models.fields import Uint256Field
from x402_django.models.ledger import Payment, new_public_id
from x402_django.models.merchant import Merchant


class PaymentChannel(models.Model):
    """A payer's deposit in escrow for one payee, and what of it is spent.

    ``balance`` is what was deposited and not given back; ``charged`` what was sold for it in all,
    by the newest voucher (``signed_maximum`` and ``signature``); ``claimed`` what the escrow has
    set aside for the payee. What is charged and not claimed is ours only as long as the payer has
    not withdrawn it, which takes ``withdraw_delay`` seconds.
    """

    network = models.CharField(_("network"), max_length=64)
    channel_id = models.CharField(_("channel"), max_length=66)
    #: Whose first sale it was.
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        default=DEFAULT_MERCHANT,
        on_delete=models.PROTECT,
        related_name="channels",
    )
    payer = models.CharField(_("payer"), max_length=42)
    #: Whose key signs the vouchers; mostly the payer's own.
    payer_authorizer = models.CharField(_("who signs"), max_length=42)
    pay_to = models.CharField(_("paid to"), max_length=42)
    #: The wallet of ours that may claim and give back.
    receiver_authorizer = models.CharField(_("who claims"), max_length=42)
    asset = models.CharField(_("token contract"), max_length=42)
    asset_symbol = models.CharField(_("token"), max_length=16)
    asset_decimals = models.PositiveSmallIntegerField()
    withdraw_delay = models.PositiveIntegerField(_("withdrawal delay in seconds"))
    salt = models.CharField(max_length=66)
    facilitator = models.CharField(_("facilitator"), max_length=64)

    balance = Uint256Field(_("deposited"), default=0)
    charged = Uint256Field(_("spent"), default=0)
    claimed = Uint256Field(_("claimed"), default=0)
    signed_maximum = Uint256Field(_("signed for"), default=0)
    signature = models.CharField(max_length=132, blank=True)
    #: Since when something is spent and not claimed.
    unclaimed_since = models.DateTimeField(_("unclaimed since"), null=True, blank=True)
    #: The newest deposit.
    transaction = models.CharField(_("transaction"), max_length=66, blank=True)
    #: Since when the escrow was seen to hold less than what is spent.
    short_since = models.DateTimeField(null=True, blank=True)
    #: When the payer has asked the escrow for the rest, by the chain's clock.
    withdrawal_at = models.DateTimeField(_("withdrawal asked for"), null=True, blank=True)
    refund_nonce = models.PositiveBigIntegerField(default=0)
    #: When the chain was last asked.
    read_at = models.DateTimeField(_("read"), null=True, blank=True)
    #: The payment that has the channel to itself, as long as that is under way.
    holder = models.ForeignKey(
        Payment, null=True, blank=True, on_delete=models.SET_NULL, db_index=False, related_name="+"
    )
    #: Counts writes; see the module.
    version = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(_("opened"))
    used_at = models.DateTimeField(_("last used"))

    class Meta:
        verbose_name = _("payment channel")
        verbose_name_plural = _("payment channels")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["network", "channel_id"], name="x402_channel_uniq"),
            models.CheckConstraint(
                condition=Q(charged__lte=F("signed_maximum")), name="x402_channel_signed_for"
            ),
        ]
        indexes = [
            models.Index(
                fields=["unclaimed_since"],
                condition=Q(unclaimed_since__isnull=False),
                name="x402_channel_unclaimed_idx",
            ),
            models.Index(fields=["payer"], name="x402_channel_payer_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.channel_id[:12]}… ({self.network})"

    @property
    def unclaimed(self) -> int:
        """What is spent and not claimed yet, in atomic units."""
        return max(int(self.charged) - int(self.claimed), 0)

    @property
    def remaining(self) -> int:
        """What is still to be spent, in atomic units."""
        return max(int(self.balance) - int(self.charged), 0)


class ChannelUse(models.Model):
    """A payment by a voucher, and up to where its channel was spent with it."""

    payment = models.OneToOneField(
        Payment,
        verbose_name=_("payment"),
        primary_key=True,
        on_delete=models.PROTECT,
        related_name="channel_use",
    )
    channel = models.ForeignKey(
        PaymentChannel,
        verbose_name=_("payment channel"),
        on_delete=models.PROTECT,
        db_index=False,  # named in Meta
        related_name="uses",
    )
    cumulative = Uint256Field(_("spent with it"))

    class Meta:
        verbose_name = _("use of a channel")
        verbose_name_plural = _("uses of channels")
        constraints = [
            models.UniqueConstraint(fields=["channel", "cumulative"], name="x402_channel_use_uniq"),
        ]

    def __str__(self) -> str:
        return f"{self.payment_id}: {self.cumulative}"


class ChannelClaim(models.Model):
    """One transaction that claims from channels of a payee, and sends it what was claimed."""

    class State(models.TextChoices):
        SENDING = "sending", _("on its way")
        SENT = "sent", _("on chain")
        FINAL = "final", _("arrived")
        FAILED = "failed", _("failed: nothing moved")

    OPEN = (State.SENDING, State.SENT)

    public_id = models.CharField(max_length=40, default=new_public_id, editable=False)
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.SENDING)
    network = models.CharField(_("network"), max_length=64)
    pay_to = models.CharField(_("paid to"), max_length=42)
    asset = models.CharField(_("token contract"), max_length=42)
    asset_symbol = models.CharField(_("token"), max_length=16)
    asset_decimals = models.PositiveSmallIntegerField()
    #: What its items add up to.
    amount = Uint256Field(_("amount"))
    #: What the escrow has sent with it, which is more where something was claimed before.
    moved = Uint256Field(_("moved"), null=True, blank=True)
    chain_transaction = models.OneToOneField(
        ChainTransaction,
        verbose_name=_("chain transaction"),
        on_delete=models.PROTECT,
        related_name="channel_claim",
    )
    transaction = models.CharField(_("transaction"), max_length=66, blank=True)
    block_number = models.PositiveBigIntegerField(_("block"), null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True)
    log_index = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(_("begun"))

    class Meta:
        verbose_name = _("claim from channels")
        verbose_name_plural = _("claims from channels")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["public_id"], name="x402_claim_public_id_uniq"),
            # One at a time: the next is made out to what this one leaves.
            models.UniqueConstraint(
                fields=["network", "pay_to", "asset"],
                condition=Q(state__in=["sending", "sent"]),
                name="x402_claim_open_uniq",
            ),
            models.UniqueConstraint(
                fields=["network", "transaction", "log_index"],
                condition=Q(log_index__isnull=False),
                name="x402_claim_transfer_uniq",
            ),
        ]
        indexes = [
            models.Index(fields=["network", "block_number"], name="x402_claim_block_idx"),
            models.Index(fields=["transaction"], name="x402_claim_tx_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.public_id[:12]} ({self.get_state_display()})"

    #: Its worth is not asked for: it is as deep as what is worth most (``payments.depth``).
    price_usd = None


class ChannelClaimItem(models.Model):
    """One channel in a claim: what of it was claimed before, and what is by this claim."""

    claim = models.ForeignKey(
        ChannelClaim, verbose_name=_("claim"), on_delete=models.PROTECT, related_name="items"
    )
    channel = models.ForeignKey(
        PaymentChannel,
        verbose_name=_("payment channel"),
        on_delete=models.PROTECT,
        related_name="claim_items",
    )
    before = Uint256Field(_("claimed before"))
    up_to = Uint256Field(_("claimed with it"))

    class Meta:
        verbose_name = _("channel of a claim")
        verbose_name_plural = _("channels of claims")
        constraints = [
            models.UniqueConstraint(fields=["claim", "channel"], name="x402_claim_item_uniq"),
            models.CheckConstraint(
                condition=Q(before__lt=F("up_to")), name="x402_claim_item_of_something"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel_id}: {self.before} → {self.up_to}"
