"""How far the logs of each network were read, and who reads them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ChainScan(models.Model):
    """Who may scan a network: a lease that ends by itself when its holder dies."""

    network = models.CharField(_("network"), max_length=64)
    #: A random name of one run; empty when nobody scans.
    holder = models.CharField(_("holder"), max_length=32, blank=True)
    held_until = models.DateTimeField(_("held until"), null=True, blank=True)
    #: The chain's newest block, as the last run that read anything has seen it.
    head = models.PositiveBigIntegerField(_("newest block"), null=True, blank=True)
    #: When a run last came to its end; also one that had nothing to read.
    finished_at = models.DateTimeField(_("last complete run"), null=True, blank=True)

    class Meta:
        verbose_name = _("chain scan")
        verbose_name_plural = _("chain scans")
        constraints = [
            models.UniqueConstraint(fields=["network"], name="x402_scan_network_uniq"),
        ]

    def __str__(self) -> str:
        return self.network


class ScannedBlock(models.Model):
    """A block up to which the logs were read; the newest of a network is the cursor.

    Kept by hash while a payment in or above it is not final, so that a reorganisation is noticed
    and the place where the chains part is found.
    """

    network = models.CharField(_("network"), max_length=64)
    number = models.PositiveBigIntegerField(_("block"))
    hash = models.CharField(_("hash"), max_length=66)

    class Meta:
        verbose_name = _("scanned block")
        verbose_name_plural = _("scanned blocks")
        ordering = ["network", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["network", "number"], name="x402_scanned_block_uniq"),
        ]

    def __str__(self) -> str:
        return f"{self.network} {self.number}"
