"""What a purchase may leave in a payer's hands: a pass, or credits; and each use of them.

A payment whose rule sells one carries the terms with it (``Payment.grant``). The rows here are
made from settled payments, and could be made from them again, but for what was used.

Credits are counted in hundred-millionths of a US dollar, which is exactly what a price can say
(``PriceRule.price_usd`` has eight places). A balance changes only together with an entry that says
why, in one transaction, by one conditional UPDATE; so it is the sum of its entries, and is never
below zero however many spend at once (threat 7).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from x402_django.constants import CREDIT_DECIMALS, SCHEME_UPTO
from x402_django.models.callbacks import SettledCallbacks
from x402_django.models.charges import Charges
from x402_django.models.ledger import AppendOnly, Payment, new_public_id
from x402_django.models.merchant import Merchant
from x402_django.models.prices import PriceRule
from x402_django.models.querysets import AppendOnlyQuerySet


class Pass(models.Model):
    """What opens pages for a while, or so many times. Made from the payment that bought it.

    ``uses_taken`` counts uses that are charged or under way. ``revoked_at`` is the merchant's.
    """

    payment = models.OneToOneField(
        Payment, verbose_name=_("payment"), on_delete=models.PROTECT, related_name="pass_sold"
    )
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        on_delete=models.PROTECT,
        db_index=False,  # named in Meta
        related_name="passes",
    )
    payer = models.CharField(_("payer"), max_length=44)
    uses = models.PositiveIntegerField(_("uses"), null=True, blank=True)
    uses_taken = models.PositiveIntegerField(_("uses taken"), default=0)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    created_at = models.DateTimeField(_("begun"))

    class Meta:
        verbose_name = _("pass")
        verbose_name_plural = _("passes")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(uses__isnull=True) | Q(uses_taken__lte=models.F("uses")),
                name="x402_pass_uses",
            ),
        ]
        indexes = [
            models.Index(fields=["merchant", "-id"], name="x402_pass_merchant_idx"),
            models.Index(fields=["payer", "-id"], name="x402_pass_payer_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.payer} ({self.created_at:%Y-%m-%d})"


class CreditAccount(models.Model):
    """A payer's credits with one merchant, in units of 10⁻⁸ US dollars.

    ``network`` is where the payer's wallet paid: a contract's address says nothing about another
    network, where somebody else may have it.
    """

    public_id = models.CharField(max_length=40, default=new_public_id, editable=False)
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        on_delete=models.PROTECT,
        related_name="credit_accounts",
    )
    payer = models.CharField(_("payer"), max_length=44)
    network = models.CharField(_("network"), max_length=64)
    balance = models.BigIntegerField(_("balance"), default=0)
    created_at = models.DateTimeField(_("opened"))

    class Meta:
        verbose_name = _("credit account")
        verbose_name_plural = _("credit accounts")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["payer", "merchant", "network"], name="x402_credit_account_uniq"
            ),
            models.UniqueConstraint(fields=["public_id"], name="x402_credit_account_public_uniq"),
            models.CheckConstraint(condition=Q(balance__gte=0), name="x402_credit_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.payer} ({self.network})"

    @property
    def balance_usd(self) -> Decimal:
        """The balance in US dollars, exact."""
        return Decimal(self.balance).scaleb(-CREDIT_DECIMALS)


class HoldingUse(SettledCallbacks, Charges, models.Model):
    """One request that was paid for out of a pass or of credits.

    To a view it is ``request.payment`` where credits are spent, so it has what views read there:
    ``payer``, ``network``, ``amount`` (in 10⁻⁸ US dollars), ``price_usd``, ``charge(…)``.
    ``held`` was taken when the view began, ``charged`` is what it came to. The response is kept,
    as a payment's is, for who named the use by an ``Idempotency-Key``.
    """

    class State(models.TextChoices):
        HELD = "held", _("under way")
        CHARGED = "charged", _("charged")
        RETURNED = "returned", _("returned")

    public_id = models.CharField(max_length=40, default=new_public_id, editable=False)
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        on_delete=models.PROTECT,
        db_index=False,  # named in Meta
        related_name="+",
    )
    sold_pass = models.ForeignKey(
        Pass,
        verbose_name=_("pass"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="use_rows",
    )
    account = models.ForeignKey(
        CreditAccount,
        verbose_name=_("credit account"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="uses",
    )
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.HELD)
    held = models.BigIntegerField(_("held"), default=0)
    charged = models.BigIntegerField(_("charged"), null=True, blank=True)
    unit_price_usd = models.DecimalField(
        _("price of one unit in US dollars"),
        max_digits=24,
        decimal_places=16,
        null=True,
        blank=True,
    )
    rule = models.ForeignKey(
        PriceRule,
        verbose_name=_("price rule"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    rule_name = models.CharField(_("rule name"), max_length=100, blank=True)
    request_method = models.CharField(_("HTTP method"), max_length=16)
    request_fingerprint = models.CharField(max_length=64)
    resource_url = models.TextField(_("resource"))
    idempotency_key = models.CharField(_("idempotency key"), max_length=128, null=True, blank=True)
    started_at = models.DateTimeField(_("begun"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    response_headers = models.JSONField(null=True, blank=True)
    response_body = models.BinaryField(null=True, blank=True)
    response_expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("use of a pass or credits")
        verbose_name_plural = _("uses of passes and credits")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(sold_pass__isnull=True, account__isnull=False)
                | Q(sold_pass__isnull=False, account__isnull=True),
                name="x402_use_of_one_holding",
            ),
            models.UniqueConstraint(
                fields=["account", "idempotency_key"],
                condition=Q(account__isnull=False, idempotency_key__isnull=False),
                name="x402_use_account_key_uniq",
            ),
            models.UniqueConstraint(
                fields=["sold_pass", "idempotency_key"],
                condition=Q(sold_pass__isnull=False, idempotency_key__isnull=False),
                name="x402_use_pass_key_uniq",
            ),
            models.CheckConstraint(
                condition=Q(charged__isnull=True)
                | (Q(charged__gte=0) & Q(charged__lte=models.F("held"))),
                name="x402_use_charged",
            ),
        ]
        indexes = [
            models.Index(fields=["merchant", "-id"], name="x402_use_merchant_idx"),
            models.Index(
                fields=["started_at"], condition=Q(state="held"), name="x402_use_held_idx"
            ),
            models.Index(
                fields=["response_expires_at"],
                condition=Q(response_expires_at__isnull=False),
                name="x402_use_stored_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.public_id[:12]} ({self.get_state_display()})"

    # What a view may read of ``request.payment``.
    scheme = SCHEME_UPTO
    asset_decimals = CREDIT_DECIMALS
    asset_symbol = "USD"
    is_paid = True
    transaction = ""

    @property
    def amount(self) -> int:
        """What is held, in 10⁻⁸ US dollars: the most that can be charged."""
        return self.held

    @property
    def requirements(self) -> dict[str, Any]:
        """As of a payment: the amount that was authorized."""
        return {"amount": str(self.held)}

    @property
    def price_usd(self) -> Decimal:
        """What is held, in US dollars."""
        return Decimal(self.held).scaleb(-CREDIT_DECIMALS)

    @property
    def payer(self) -> str:
        """Whose credits are spent."""
        return self.account.payer if self.account else self.sold_pass.payer  # type: ignore[union-attr]

    @property
    def network(self) -> str:
        """Where the payer's wallet bought the credits."""
        return self.account.network if self.account else ""


class CreditEntry(AppendOnly):
    """One change of a balance, and the balance after it. The sum of them is the balance."""

    class Kind(models.TextChoices):
        TOP_UP = "top_up", _("bought")
        WITHDRAWN = "withdrawn", _("its payment was undone")
        SPENT = "spent", _("spent")
        RETURNED = "returned", _("given back")

    account = models.ForeignKey(
        CreditAccount,
        verbose_name=_("credit account"),
        on_delete=models.PROTECT,
        related_name="entries",
    )
    at = models.DateTimeField(_("at"))
    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    amount = models.BigIntegerField(_("amount"))
    balance = models.BigIntegerField(_("balance after it"))
    payment = models.ForeignKey(
        Payment,
        verbose_name=_("payment"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="credit_entries",
    )
    use = models.ForeignKey(
        HoldingUse,
        verbose_name=_("use"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="entries",
    )

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("credit entry")
        verbose_name_plural = _("credit entries")
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.amount:+d}"
