"""The ledger: payments, their history and their receipts.

Rows here are money. They are written by ``payments/`` alone: never edited in place by a view or
the admin, never deleted.
"""

from __future__ import annotations

import secrets
from typing import Any, NoReturn

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from x402_django.constants import DEFAULT_MERCHANT
from x402_django.models.callbacks import SettledCallbacks
from x402_django.models.charges import Charges
from x402_django.models.fields import Uint256Field, VerifyingContractField
from x402_django.models.merchant import Merchant
from x402_django.models.prices import Flow, PaymentMethod, PriceRule
from x402_django.models.querysets import AppendOnlyQuerySet, PaymentQuerySet
from x402_django.models.service import FacilitatorKey


def new_public_id() -> str:
    """An unguessable name for a row that strangers may ask about (160 random bits)."""
    return secrets.token_hex(20)


class Payment(SettledCallbacks, Charges, models.Model):
    """One authorization or transfer that a client presented, and all that became of it.

    ``requirements`` and ``payload`` are the v2 forms of the offer and of the signed
    authorization as they were accepted; a later edit of a rule or method changes neither.
    Under the scheme ``upto``, ``amount`` and ``price_usd`` are the most that may be charged until
    the payment is settled, and then what was charged; the most stays in ``requirements``.
    Where ``scheme`` is ``transfer``, ``payload`` is the proof of a transfer that the payer made
    itself, ``nonce`` names that proof, ``facilitator`` is empty and ``amount`` is what was
    transferred, which may be more than ``requirements`` ask.

    Addresses are as their network writes them: EIP-55 on EVM, base58 on Solana, where the letter
    case counts and ``nonce`` is the SHA-256 of the message that was signed.
    """

    class State(models.TextChoices):
        CLAIMED = "claimed", _("claimed")
        VERIFIED = "verified", _("verified")
        SETTLING = "settling", _("settling")
        SETTLED = "settled", _("settled")
        FINAL = "final", _("final")
        WAIVED = "waived", _("nothing charged")
        REJECTED = "rejected", _("rejected")
        RELEASED = "released", _("released")
        FAILED = "failed", _("failed")
        EXPIRED = "expired", _("expired")
        REVERSED = "reversed", _("reversed")
        REFUNDED = "refunded", _("refunded")

    class Kind(models.TextChoices):
        """Whose income it is. Each kind has books of its own: nothing of one counts in the other,
        and an authorization may stand in both, as when this site sells through its own service.
        """

        SALE = "sale", _("sold by this site")
        SERVICE = "service", _("settled for others")

    public_id = models.CharField(max_length=40, default=new_public_id, editable=False)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind, default=Kind.SALE)
    #: Of the facilitator service: whose request it was.
    service_key = models.ForeignKey(
        FacilitatorKey,
        verbose_name=_("API key"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        db_index=False,
        related_name="payments",
    )
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.CLAIMED)
    state_changed_at = models.DateTimeField(_("state changed"))
    #: Counts claims of this row; a worker whose claim was released and taken over cannot write.
    attempt = models.PositiveIntegerField(default=1)
    outcome_unknown_at = models.DateTimeField(_("outcome unknown since"), null=True, blank=True)

    scheme = models.CharField(_("scheme"), max_length=32)
    network = models.CharField(_("network"), max_length=64)
    asset = models.CharField(_("token contract"), max_length=44)
    verifying_contract = VerifyingContractField(_("contract that keeps the nonces"), max_length=44)
    payer = models.CharField(_("payer"), max_length=44)
    nonce = models.CharField(_("authorization nonce"), max_length=66)
    pay_to = models.CharField(_("paid to"), max_length=44)
    amount = Uint256Field(_("amount"))
    asset_symbol = models.CharField(_("token"), max_length=16)
    asset_decimals = models.PositiveSmallIntegerField()
    valid_before = Uint256Field(_("authorization valid before"))
    price_usd = models.DecimalField(
        _("price in US dollars"), max_digits=18, decimal_places=8, null=True, blank=True
    )
    unit_price_usd = models.DecimalField(
        _("price of one unit in US dollars"),
        max_digits=24,
        decimal_places=16,
        null=True,
        blank=True,
    )

    x402_version = models.PositiveSmallIntegerField(_("x402 version"))
    flow = models.CharField(_("payment flow"), max_length=16, choices=Flow)
    facilitator = models.CharField(_("facilitator"), max_length=64)
    requirements = models.JSONField(_("requirements"))
    payload = models.JSONField(_("payload"))
    #: Whose sale it is; of the rule or the page at the time.
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        default=DEFAULT_MERCHANT,
        on_delete=models.PROTECT,
        db_index=False,  # named in Meta
        related_name="payments",
    )
    method = models.ForeignKey(
        PaymentMethod,
        verbose_name=_("payment method"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        db_index=False,
        related_name="+",
    )
    rule = models.ForeignKey(
        PriceRule,
        verbose_name=_("price rule"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="payments",
    )
    rule_name = models.CharField(_("rule name"), max_length=100, blank=True)

    request_fingerprint = models.CharField(max_length=64)
    request_method = models.CharField(_("HTTP method"), max_length=16)
    resource_url = models.TextField(_("resource"))
    description = models.CharField(_("description"), max_length=500, blank=True)
    #: Seconds from settlement in which the browser that paid may come back (http/access.py).
    session_access = models.PositiveIntegerField(_("session access in seconds"), default=0)
    #: What it buys beside its own request, as it was sold: a pass or credits (pricing/grants.py).
    grant = models.JSONField(_("grants"), null=True, blank=True)

    #: The payer's own name for the purchase (the extension payment-identifier), if it gave one.
    payment_identifier = models.CharField(
        _("payment identifier"), max_length=128, null=True, blank=True
    )
    #: What came with the payload under ``extensions``, as those that read it keep it, by key.
    extensions = models.JSONField(_("extensions"), default=dict, blank=True)

    transaction = models.CharField(_("transaction"), max_length=90, blank=True)
    block_number = models.PositiveBigIntegerField(_("block"), null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True)
    log_index = models.PositiveIntegerField(null=True, blank=True)
    failure_code = models.CharField(_("failure"), max_length=100, blank=True)

    created_at = models.DateTimeField(_("presented"))
    settled_at = models.DateTimeField(_("settled"), null=True, blank=True)
    #: Set while a worker runs the view for a settled payment, so that no retry runs it too.
    delivery_started_at = models.DateTimeField(null=True, blank=True)
    #: How often a response too large to store was begun to be sent; see payments/delivery.py.
    deliveries = models.PositiveSmallIntegerField(default=0)
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    #: All of it goes back, undelivered: it is not owed any more (payments/refunds).
    refunding_at = models.DateTimeField(_("to be given back since"), null=True, blank=True)
    superseded_by = models.ForeignKey(
        "self",
        verbose_name=_("served from"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
    )

    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    response_headers = models.JSONField(null=True, blank=True)
    response_body = models.BinaryField(null=True, blank=True)
    response_expires_at = models.DateTimeField(null=True, blank=True)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["network", "verifying_contract", "payer", "nonce", "kind"],
                name="x402_payment_authorization_uniq",
            ),
            models.UniqueConstraint(
                fields=["network", "transaction", "log_index", "kind"],
                condition=Q(log_index__isnull=False),
                name="x402_payment_transfer_uniq",
            ),
            models.UniqueConstraint(
                # Only those that have one: the others' claims pay nothing for it.
                fields=["payer", "payment_identifier"],
                condition=Q(payment_identifier__isnull=False),
                name="x402_payment_identifier_uniq",
            ),
            models.UniqueConstraint(fields=["public_id"], name="x402_payment_public_id_uniq"),
            models.CheckConstraint(
                condition=~Q(state__in=["settled", "final"])
                | (~Q(transaction="") & Q(settled_at__isnull=False)),
                name="x402_payment_settled_has_tx",
            ),
            models.CheckConstraint(
                condition=Q(kind="sale", service_key__isnull=True)
                | Q(kind="service", service_key__isnull=False),
                name="x402_payment_service_has_key",
            ),
        ]
        indexes = [
            models.Index(
                fields=["payer", "request_fingerprint"],
                condition=Q(
                    state__in=["settling", "settled", "final", "reversed"],
                    delivered_at__isnull=True,
                ),
                name="x402_payment_debt_idx",
            ),
            # What lets a wallet come back that signs in.
            models.Index(
                fields=["payer", "request_fingerprint", "-settled_at"],
                condition=Q(session_access__gt=0, settled_at__isnull=False),
                name="x402_payment_access_idx",
            ),
            # What a wallet holds that signs in; what is still to be credited.
            models.Index(
                fields=["payer", "merchant"],
                condition=Q(grant__isnull=False),
                name="x402_payment_grant_idx",
            ),
            models.Index(
                fields=["state", "state_changed_at"],
                condition=Q(state__in=["claimed", "verified", "settling", "settled"]),
                name="x402_payment_open_idx",
            ),
            models.Index(
                # All that the sum of what is owed reads, so that it reads no rows.
                fields=["payer", "price_usd", "state", "flow"],
                condition=Q(flow="deferred", state__in=["verified", "settling", "reversed"]),
                name="x402_payment_exposed_idx",
            ),
            models.Index(
                # See ``in_flight``; those of all payers are counted in it, too.
                fields=["payer"],
                condition=Q(
                    state__in=["claimed", "verified", "settling"], delivered_at__isnull=True
                ),
                name="x402_payment_in_flight_idx",
            ),
            # All that the sum of what is reserved reads; see ``reservations``.
            models.Index(
                fields=["payer", "asset", "state", "block_number", "amount"],
                condition=Q(scheme="upto"),
                name="x402_payment_reserved_idx",
            ),
            models.Index(
                fields=["payer", "state_changed_at"],
                condition=Q(state__in=["failed", "expired"]),
                name="x402_payment_failed_idx",
            ),
            # The blocks that wait for depth; a row leaves it when it is final.
            models.Index(
                fields=["network", "block_number"],
                condition=Q(state="settled"),
                name="x402_payment_unfinal_idx",
            ),
            models.Index(fields=["kind", "-id"], name="x402_payment_kind_idx"),
            models.Index(
                fields=["service_key", "-id"],
                condition=Q(kind="service"),
                name="x402_payment_service_key_idx",
            ),
            models.Index(fields=["merchant", "-id"], name="x402_payment_merchant_idx"),
            models.Index(fields=["state", "-id"], name="x402_payment_state_idx"),
            models.Index(fields=["payer", "-id"], name="x402_payment_payer_idx"),
            models.Index(fields=["transaction"], name="x402_payment_tx_idx"),
            models.Index(fields=["created_at"], name="x402_payment_created_idx"),
            models.Index(
                fields=["response_expires_at"],
                condition=Q(response_expires_at__isnull=False),
                name="x402_payment_stored_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.public_id[:12]} ({self.get_state_display()})"

    @property
    def is_paid(self) -> bool:
        """Whether the money has arrived, as far as the ledger knows."""
        return self.state in (self.State.SETTLED, self.State.FINAL)

    @property
    def is_done(self) -> bool:
        """Whether no more money is to move: it has arrived, or none was charged."""
        return self.is_paid or self.state == self.State.WAIVED


class ServicePayment(Payment):
    """A payment that the facilitator service settled for others, for a list of its own."""

    class Meta:
        proxy = True
        verbose_name = _("payment settled for others")
        verbose_name_plural = _("payments settled for others")


class AppendOnly(models.Model):
    """A row that is written once."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            self._refuse()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} rows are append-only: write a new one instead.")


class PaymentEvent(AppendOnly):
    """One transition of a payment, with its reason. The claim itself is the payment's row."""

    payment = models.ForeignKey(
        Payment, verbose_name=_("payment"), on_delete=models.PROTECT, related_name="events"
    )
    at = models.DateTimeField(_("at"))
    from_state = models.CharField(_("from"), max_length=16, choices=Payment.State)
    to_state = models.CharField(_("to"), max_length=16, choices=Payment.State)
    code = models.CharField(_("code"), max_length=100, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    actor = models.CharField(_("actor"), max_length=100)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("payment event")
        verbose_name_plural = _("payment events")
        ordering = ["pk"]
        indexes = [models.Index(fields=["at"], name="x402_event_at_idx")]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"


class Receipt(AppendOnly):
    """The immutable record that a payer and an accountant can rely on."""

    reference = models.CharField(
        _("reference"), max_length=40, default=new_public_id, editable=False
    )
    payment = models.OneToOneField(
        Payment, verbose_name=_("payment"), on_delete=models.PROTECT, related_name="receipt"
    )
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        default=DEFAULT_MERCHANT,
        on_delete=models.PROTECT,
        db_index=False,  # named in Meta
        related_name="receipts",
    )
    issued_at = models.DateTimeField(_("issued"))
    network = models.CharField(_("network"), max_length=64)
    asset = models.CharField(_("token contract"), max_length=44)
    asset_symbol = models.CharField(_("token"), max_length=16)
    asset_decimals = models.PositiveSmallIntegerField()
    amount = Uint256Field(_("amount"))
    price_usd = models.DecimalField(
        _("price in US dollars"), max_digits=18, decimal_places=8, null=True, blank=True
    )
    payer = models.CharField(_("payer"), max_length=44)
    pay_to = models.CharField(_("paid to"), max_length=44)
    transaction = models.CharField(_("transaction"), max_length=90)
    resource_url = models.TextField(_("resource"))
    description = models.CharField(_("description"), max_length=500, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["reference"], name="x402_receipt_reference_uniq"),
        ]
        indexes = [
            models.Index(fields=["merchant", "-id"], name="x402_receipt_merchant_idx"),
            models.Index(fields=["payer", "-id"], name="x402_receipt_payer_idx"),
            models.Index(fields=["issued_at"], name="x402_receipt_issued_idx"),
            models.Index(fields=["transaction"], name="x402_receipt_tx_idx"),
        ]

    def __str__(self) -> str:
        return self.reference
