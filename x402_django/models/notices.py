"""Notices about the chain that came in, so that none is acted on twice."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ChainNotice(models.Model):
    """A signed notice of a webhook, by the digest of its body. Kept as long as one is believed."""

    source = models.CharField(_("source"), max_length=64)
    digest = models.CharField(max_length=64)
    received_at = models.DateTimeField(_("received"))

    class Meta:
        verbose_name = _("notice about the chain")
        verbose_name_plural = _("notices about the chain")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["source", "digest"], name="x402_chain_notice_uniq"),
        ]
        indexes = [models.Index(fields=["received_at"], name="x402_chain_notice_idx")]

    def __str__(self) -> str:
        return f"{self.source}: {self.digest[:12]}"
