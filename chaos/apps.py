"""Installs the points at which processes of the shop kill themselves."""

from __future__ import annotations

from django.apps import AppConfig


class ChaosConfig(AppConfig):
    name = "chaos"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Every process of the shop starts here, web and worker."""
        from chaos import faults

        faults.install()
