"""What somebody was told of by e-mail, so that it is told once, and that it is over."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Alert(models.Model):
    """Something that needs somebody, from when it was noticed until it was well again.

    ``told_at`` is taken before the mail is sent, by one conditional write: of several workers one
    sends it.
    """

    name = models.CharField(_("about"), max_length=32)
    sentence = models.TextField(_("what was said"))
    opened_at = models.DateTimeField(_("noticed"))
    told_at = models.DateTimeField(_("last told"), null=True, blank=True)
    closed_at = models.DateTimeField(_("well again"), null=True, blank=True)

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(closed_at__isnull=True), name="x402_alert_open_uniq"
            ),
        ]

    def __str__(self) -> str:
        return self.name
