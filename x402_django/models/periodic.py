"""When the periodic tasks ran: whether workers, beat and broker are alive."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class PeriodicRun(models.Model):
    """A periodic task, by its name: when it last began, came to its end, and broke off.

    Wherever it ran: in a Celery worker, or as a management command from a timer.
    """

    name = models.CharField(_("task"), max_length=100)
    started_at = models.DateTimeField(_("last begun"))
    finished_at = models.DateTimeField(_("last complete run"), null=True, blank=True)
    failed_at = models.DateTimeField(_("last broken off"), null=True, blank=True)
    #: The class of the exception, never its text.
    failure = models.CharField(_("by"), max_length=100, blank=True)

    class Meta:
        verbose_name = _("periodic task")
        verbose_name_plural = _("periodic tasks")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["name"], name="x402_periodic_name_uniq"),
        ]

    def __str__(self) -> str:
        return self.name
