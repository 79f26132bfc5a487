"""The app: what happens once, when Django starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

from x402_django.conf import x402


class X402Config(AppConfig):
    """Wires receivers and checks; loads neither web3 nor the x402 SDK."""

    name = "x402_django"
    label = "x402_django"
    verbose_name = _("Payments (x402)")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from x402_django import checks  # noqa: F401  (registers the system checks)
        from x402_django.desk import challenges
        from x402_django.first_merchant import make_default_merchant
        from x402_django.models.fields import register_sqlite_functions
        from x402_django.payments import holdings
        from x402_django.pricing import cache

        connection_created.connect(
            register_sqlite_functions, dispatch_uid="x402_django.sqlite_functions"
        )
        post_migrate.connect(
            make_default_merchant, sender=self, dispatch_uid="x402_django.default_merchant"
        )
        cache.connect_receivers()
        challenges.connect()
        holdings.connect()
        if x402.metrics_token_env:
            from x402_django.payments import counters

            counters.connect()
