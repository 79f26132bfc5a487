"""What the views have done."""

from __future__ import annotations

from django.db import models


class Run(models.Model):
    """One run of a paid view."""

    payment = models.CharField(max_length=40, db_index=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.payment
