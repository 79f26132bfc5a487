"""What is remembered of sign-ins by wallet: that each is good once."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, models, router, transaction
from django.utils.translation import gettext_lazy as _


class SpentNonceQuerySet(models.QuerySet["SpentNonce"]):
    """The one write."""

    def spend(self, nonce: str, *, until: datetime) -> bool:
        """Use ``nonce`` up, durably. False: it was used before; the database decides."""
        alias = router.db_for_write(self.model)
        try:
            with transaction.atomic(using=alias, durable=True):
                self.using(alias).create(nonce=nonce, expires_at=until)
        except IntegrityError:
            return False
        return True


class SpentNonce(models.Model):
    """The nonce of a sign-in that was presented, until it would have expired anyway."""

    nonce = models.CharField(_("nonce"), max_length=64)
    expires_at = models.DateTimeField(_("expires"))

    objects = SpentNonceQuerySet.as_manager()

    class Meta:
        verbose_name = _("spent sign-in nonce")
        verbose_name_plural = _("spent sign-in nonces")
        constraints = [
            models.UniqueConstraint(fields=["nonce"], name="x402_spent_nonce_uniq"),
        ]
        indexes = [models.Index(fields=["expires_at"], name="x402_spent_nonce_expires_idx")]

    def __str__(self) -> str:
        return self.nonce
