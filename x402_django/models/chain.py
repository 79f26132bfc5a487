"""Outgoing transactions of the settlement wallets: the outbox."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from x402_django.models.fields import Uint256Field
from x402_django.models.ledger import Payment


class SettlementWallet(models.Model):
    """The next nonce of a wallet on a network; the row that is locked to take one."""

    network = models.CharField(_("network"), max_length=64)
    address = models.CharField(_("address"), max_length=42)
    next_nonce = models.PositiveBigIntegerField(_("next nonce"))
    balance = Uint256Field(_("balance, in wei"), null=True, blank=True)
    balance_at = models.DateTimeField(_("balance seen"), null=True, blank=True)
    #: ``LOW_BALANCE`` of its facilitator, as of then; None where none is set.
    low_balance = Uint256Field(_("low balance, in wei"), null=True, blank=True)

    class Meta:
        verbose_name = _("settlement wallet")
        verbose_name_plural = _("settlement wallets")
        constraints = [
            models.UniqueConstraint(fields=["network", "address"], name="x402_wallet_uniq"),
        ]

    def __str__(self) -> str:
        return f"{self.address} ({self.network})"

    @property
    def is_low(self) -> bool:
        """Whether it had less than its ``LOW_BALANCE`` when it was last looked at."""
        return (
            self.balance is not None
            and self.low_balance is not None
            and self.balance < self.low_balance
        )


class ChainTransaction(models.Model):
    """A transaction of ours, stored signed *before* it is broadcast.

    Or a payer's, where we pay for it: ``wallet`` is then the payer, and ``prepares`` says for what.
    ``raw`` is the signed transaction: whoever holds it can send it, which is safe (it can only
    do what it says, once), and is what makes a crash between commit and broadcast harmless.
    """

    class Status(models.TextChoices):
        SIGNED = "signed", _("signed, not known to be sent")
        SENT = "sent", _("sent")
        MINED = "mined", _("mined")
        REVERTED = "reverted", _("reverted")
        DROPPED = "dropped", _("dropped: its nonce was used by another transaction")

    network = models.CharField(_("network"), max_length=64)
    wallet = models.CharField(_("wallet"), max_length=42)
    nonce = models.PositiveBigIntegerField(_("nonce"))
    hash = models.CharField(_("hash"), max_length=66)
    raw = models.BinaryField(_("signed bytes"))
    to = models.CharField(_("to"), max_length=42)
    #: What is sent along: to a payer whose own transaction is paid for, otherwise nothing.
    value = Uint256Field(_("value, in wei"), default=0)
    gas_limit = models.PositiveBigIntegerField(_("gas limit"))
    max_fee_per_gas = Uint256Field(_("maximum fee per gas, in wei"))
    max_priority_fee_per_gas = Uint256Field(_("maximum priority fee per gas, in wei"))
    payments = models.ManyToManyField(
        Payment,
        through="ChainTransactionItem",
        verbose_name=_("payments"),
        related_name="chain_transactions",
    )
    #: The payment whose settlement it prepares: it deploys the payer's wallet, approves Permit2, or
    #: gives the payer the gas for that; it moves none of the payment's money.
    prepares = models.ForeignKey(
        Payment,
        verbose_name=_("prepares"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        db_index=False,
        related_name="preparations",
    )
    #: How many payments it settles: each bears an equal part of the gas.
    payments_count = models.PositiveIntegerField(_("number of payments"), default=0)
    #: How often it was signed anew for a higher fee; the earlier forms are kept.
    bumps = models.PositiveIntegerField(_("times the fee was raised"), default=0)
    bumped_at = models.DateTimeField(_("fee last raised"), null=True, blank=True)
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.SIGNED)
    created_at = models.DateTimeField(_("signed at"))
    sent_at = models.DateTimeField(_("last sent"), null=True, blank=True)
    sends = models.PositiveIntegerField(_("times sent"), default=0)
    last_error = models.CharField(_("last error"), max_length=200, blank=True)
    mined_at = models.DateTimeField(_("seen mined"), null=True, blank=True)
    block_number = models.PositiveBigIntegerField(_("block"), null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True)
    gas_used = models.PositiveBigIntegerField(_("gas used"), null=True, blank=True)
    effective_gas_price = Uint256Field(_("gas price paid, in wei"), null=True, blank=True)

    class Meta:
        verbose_name = _("chain transaction")
        verbose_name_plural = _("chain transactions")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["network", "wallet", "nonce"],
                condition=~Q(status="dropped"),
                name="x402_chain_tx_nonce_uniq",
            ),
            models.UniqueConstraint(fields=["network", "hash"], name="x402_chain_tx_hash_uniq"),
            # Gas for a payer's own transaction is given once, however many payments wait for it.
            models.UniqueConstraint(
                fields=["prepares", "to"],
                condition=Q(prepares__isnull=False) & ~Q(status="dropped") & ~Q(value=0),
                name="x402_chain_tx_gift_uniq",
            ),
        ]
        indexes = [
            models.Index(
                fields=["network", "status"],
                condition=Q(status__in=["signed", "sent"]),
                name="x402_chain_tx_open_idx",
            ),
            models.Index(fields=["created_at"], name="x402_chain_tx_created_idx"),
            # What the dashboard's figures follow; see ``desk.following``.
            models.Index(
                fields=["mined_at"],
                condition=Q(mined_at__isnull=False),
                name="x402_chain_tx_mined_idx",
            ),
            models.Index(
                fields=["prepares", "id"],
                condition=Q(prepares__isnull=False),
                name="x402_chain_tx_prepares_idx",
            ),
        ]

    def __str__(self) -> str:
        return self.hash


class ReplacedTransaction(models.Model):
    """An earlier form of a transaction: same nonce, same call, lower fee. It may yet be mined."""

    chain_transaction = models.ForeignKey(
        ChainTransaction,
        verbose_name=_("chain transaction"),
        on_delete=models.PROTECT,
        related_name="replaced",
    )
    hash = models.CharField(_("hash"), max_length=66)
    raw = models.BinaryField(_("signed bytes"))
    max_fee_per_gas = Uint256Field(_("maximum fee per gas, in wei"))
    max_priority_fee_per_gas = Uint256Field(_("maximum priority fee per gas, in wei"))
    replaced_at = models.DateTimeField(_("replaced"))

    class Meta:
        verbose_name = _("replaced transaction")
        verbose_name_plural = _("replaced transactions")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["chain_transaction", "hash"], name="x402_replaced_tx_uniq"
            ),
        ]

    def __str__(self) -> str:
        return self.hash


class ChainTransactionItem(models.Model):
    """A payment's place in the outbox: waiting for a transaction, or riding in one.

    Whoever asks for the payment to be settled may take back an item that waits, and then knows
    that nothing is sent. Once it rides, only the chain says what comes of it.
    """

    class Status(models.TextChoices):
        WAITING = "waiting", _("waiting for a transaction")
        ALONE = "alone", _("to be settled by itself")
        RIDING = "riding", _("riding in a transaction")
        MISSED = "missed", _("mined without effect")
        DROPPED = "dropped", _("its transaction was dropped")
        REFUSED = "refused", _("no node took its transaction")

    payment = models.ForeignKey(
        Payment,
        verbose_name=_("payment"),
        on_delete=models.PROTECT,
        related_name="chain_items",
    )
    network = models.CharField(_("network"), max_length=64)
    facilitator = models.CharField(_("facilitator"), max_length=64)
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.WAITING)
    chain_transaction = models.ForeignKey(
        ChainTransaction,
        verbose_name=_("chain transaction"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="items",
    )
    position = models.PositiveIntegerField(_("position"), default=0)
    created_at = models.DateTimeField(_("queued"))

    class Meta:
        verbose_name = _("place in a transaction")
        verbose_name_plural = _("places in transactions")
        ordering = ["pk"]
        constraints = [
            # Two live transactions for one payment would waste the gas of the second.
            models.UniqueConstraint(
                fields=["payment"],
                condition=Q(status__in=["waiting", "alone", "riding"]),
                name="x402_chain_item_payment_uniq",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "alone"]) | Q(chain_transaction__isnull=False),
                name="x402_chain_item_rides_in_one",
            ),
        ]
        indexes = [
            models.Index(
                fields=["network", "facilitator", "id"],
                condition=Q(status="waiting"),
                name="x402_chain_item_waiting_idx",
            ),
            # The few that do not ride, for whoever looks for them.
            models.Index(
                fields=["status", "-id"],
                condition=Q(status__in=["waiting", "alone", "missed", "dropped"]),
                name="x402_chain_item_status_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.payment_id}: {self.get_status_display()}"


class SettlementLane(models.Model):
    """Who sends groups of payments for a facilitator on a network, and until when.

    For efficiency alone: two leaders at a time would make smaller groups, and nothing worse.
    """

    network = models.CharField(_("network"), max_length=64)
    facilitator = models.CharField(_("facilitator"), max_length=64)
    holder = models.CharField(_("held by"), max_length=40, blank=True)
    held_until = models.DateTimeField(_("held until"))

    class Meta:
        verbose_name = _("settlement lane")
        verbose_name_plural = _("settlement lanes")
        constraints = [
            models.UniqueConstraint(
                fields=["network", "facilitator"], name="x402_settlement_lane_uniq"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.facilitator} ({self.network})"
