"""Who sells: the merchants of a site, their members, and the pages that are theirs.

A site always has one, its own (``DEFAULT_MERCHANT``), to whom everything belongs that nobody has
given to another; it is made by ``migrate``. As long as it is the only one, nothing in the admin
speaks of merchants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _

from x402_django import clock
from x402_django.constants import DEFAULT_MERCHANT

if TYPE_CHECKING:
    from datetime import datetime

    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser


#: What is printed on receipts, as it was at the time of sale.
PRINTED: Final = ("name", "address", "tax_id", "note")


class MerchantQuerySet(models.QuerySet["Merchant"]):
    """Merchants; an ``update`` of what is printed keeps what was printed before."""

    def update(self, **kwargs: Any) -> int:
        """As ``QuerySet.update``."""
        if not set(PRINTED) & set(kwargs):
            return super().update(**kwargs)
        with transaction.atomic(using=self.db):
            keys = list(self.order_by().values_list("pk", flat=True))
            for row in Merchant.objects.using(self.db).filter(pk__in=keys):
                MerchantDetails.objects.begin(row)
            written = super().update(**kwargs)
            for row in Merchant.objects.using(self.db).filter(pk__in=keys):
                MerchantDetails.objects.keep(row)
        return written

    update.alters_data = True  # type: ignore[attr-defined]


class Merchant(models.Model):
    """Somebody who sells on this site: has members, payees, price rules and receipts."""

    name = models.CharField(
        _("name"), max_length=100, help_text=_("As buyers and bookkeepers know the seller.")
    )
    address = models.TextField(
        _("address"), blank=True, help_text=_("Of the business, as on an invoice.")
    )
    tax_id = models.CharField(
        _("tax number"), max_length=64, blank=True, help_text=_("Such as a VAT number.")
    )
    note = models.TextField(
        _("note"), blank=True, help_text=_("Terms, or what the law wants said to buyers.")
    )
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("members"),
        through="x402_django.Membership",
        related_name="x402_merchants",
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = MerchantQuerySet.as_manager()

    class Meta:
        verbose_name = _("merchant")
        verbose_name_plural = _("merchants")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["name"], name="x402_merchant_name_uniq")]
        permissions = [
            ("all_merchants", _("Can see and edit what is every merchant's")),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As ``Model.save``; what was printed on receipts before is kept."""
        using = kwargs.get("using") or router.db_for_write(Merchant, instance=self)
        with transaction.atomic(using=using):
            stored = Merchant.objects.using(using).filter(pk=self.pk).first() if self.pk else None
            if stored is not None:
                MerchantDetails.objects.using(using).begin(stored)
            super().save(*args, **kwargs)
            MerchantDetails.objects.using(using).keep(self)

    @property
    def is_default(self) -> bool:
        """Whether this is the site's own: it cannot be deleted."""
        return self.pk == DEFAULT_MERCHANT


class MerchantDetailsQuerySet(models.QuerySet["MerchantDetails"]):
    """What merchants' receipts say of them, and since when."""

    def at(self, merchant: Merchant, moment: datetime) -> Merchant | MerchantDetails:
        """The details that were in force then; those of today where they never changed."""
        rows = self.filter(merchant=merchant)
        found = rows.filter(since__lte=moment).order_by("-since", "-pk").first()
        return found or rows.order_by("since", "pk").first() or merchant

    def begin(self, stored: Merchant) -> None:
        """Write down what has been in force from the beginning, if nothing is yet."""
        if not self.filter(merchant=stored).exists():
            self._write(stored, stored.created_at)

    def keep(self, merchant: Merchant) -> None:
        """Write down what is in force from now on, if it is news."""
        last = self.filter(merchant=merchant).order_by("-since", "-pk").first()
        if last is None or any(getattr(last, n) != getattr(merchant, n) for n in PRINTED):
            self._write(merchant, clock.now())

    def _write(self, merchant: Merchant, since: datetime) -> None:
        values = {name: getattr(merchant, name) for name in PRINTED}
        self.create(merchant=merchant, since=since, **values)


class MerchantDetails(models.Model):
    """What a merchant's receipts say of it, from ``since`` on. Written once, never changed."""

    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        on_delete=models.CASCADE,
        db_index=False,  # named in Meta
        related_name="details",
    )
    since = models.DateTimeField(_("since"))
    name = models.CharField(_("name"), max_length=100)
    address = models.TextField(_("address"), blank=True)
    tax_id = models.CharField(_("tax number"), max_length=64, blank=True)
    note = models.TextField(_("note"), blank=True)

    objects = MerchantDetailsQuerySet.as_manager()

    class Meta:
        verbose_name = _("merchant’s details")
        verbose_name_plural = _("merchants’ details")
        indexes = [models.Index(fields=["merchant", "since"], name="x402_merchant_details_idx")]

    def __str__(self) -> str:
        return f"{self.name} ({self.since:%Y-%m-%d})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Once. Raises TypeError for a row that is there already."""
        if not self._state.adding:
            raise TypeError("MerchantDetails rows are append-only: write a new one instead.")
        super().save(*args, **kwargs)


class Membership(models.Model):
    """That somebody works for a merchant. What the person may do there, permissions say."""

    merchant = models.ForeignKey(Merchant, verbose_name=_("merchant"), on_delete=models.CASCADE)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="x402_memberships",
    )

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        constraints = [
            models.UniqueConstraint(
                fields=["merchant", "user"],
                name="x402_membership_uniq",
                violation_error_message=_("This person is a member already."),
            )
        ]

    def __str__(self) -> str:
        return str(self.user)


class MerchantPage(models.Model):
    """A page that is a merchant's to sell: nobody else's price applies to it.

    ``name`` is the name of a route or the key of a price rule. What is in no row is the site's
    own: otherwise one merchant could set a price, and its own payee, on what another sells.
    """

    merchant = models.ForeignKey(
        Merchant, verbose_name=_("merchant"), on_delete=models.CASCADE, related_name="pages"
    )
    name = models.CharField(
        _("page"),
        max_length=200,
        help_text=_("The name of a route, such as blog:article; or a price rule's key."),
    )

    class Meta:
        verbose_name = _("page")
        verbose_name_plural = _("pages")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="x402_merchant_page_uniq",
                violation_error_message=_("This page belongs to a merchant already."),
            )
        ]

    def __str__(self) -> str:
        return self.name


def merchants_seen_by(user: AbstractBaseUser | AnonymousUser) -> frozenset[int] | None:
    """Whose rows ``user`` may see and edit, as primary keys; None: everybody's.

    What somebody may do with them, Django's permissions say. Everybody's are seen by superusers,
    by those with the permission ``all_merchants``, and by every user of a site that has but one.
    Nothing is kept on ``user``: who is made a member, or no longer is, is that at once.
    """
    if getattr(user, "is_active", False) and user.has_perm("x402_django.all_merchants"):  # type: ignore[union-attr]
        return None
    if not Merchant.objects.exclude(pk=DEFAULT_MERCHANT).exists():
        return None
    if user.pk is None:
        return frozenset()
    return frozenset(Membership.objects.filter(user=user.pk).values_list("merchant", flat=True))
