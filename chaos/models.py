"""What the views have done."""

from __future__ import annotations

from django.db import models


class Run(models.Model):
    """One run of a paid view, in one attempt at one payment."""

    payment = models.CharField(max_length=40, db_index=True)
    attempt = models.PositiveIntegerField()
    flow = models.CharField(max_length=16)
    is_paid = models.BooleanField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.payment}, attempt {self.attempt}"
