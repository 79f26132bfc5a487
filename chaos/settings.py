"""The demo's settings, with times short enough for a run of a minute."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

from demo_project.settings import *  # noqa: F403
from demo_project.settings import INSTALLED_APPS, NETWORK
from demo_project.settings import X402 as _SHOP

INSTALLED_APPS = [*INSTALLED_APPS, "chaos"]
ROOT_URLCONF = "chaos.urls"

SHOP: dict[str, Any] = dict(_SHOP)

#: A queue of its own: the broker may have other users.
CELERY_TASK_DEFAULT_QUEUE = os.environ["CHAOS_QUEUE"]

X402 = {
    **SHOP,
    "SETTLEMENT_TIMEOUT": 2,
    "CLAIM_TIMEOUT": 8,
    "RETRY_AFTER": 1,
    "CONFIRMATION_INTERVAL": 1,
    # So that both limits of what a buyer may owe are met, and a poor one is trusted again.
    "DEFERRED_MAX_EXPOSURE_PER_PAYER": Decimal("0.01"),
    "DEFERRED_MAX_EXPOSURE": Decimal("0.05"),
    "FAILED_PAYER_MEMORY": 5,
    "NETWORKS": {
        NETWORK: {
            **SHOP["NETWORKS"][NETWORK],
            "CONFIRMATIONS": [(0, 3), (Decimal("0.1"), 4)],
            "RPC_TIMEOUT": 2.0,
            "POLL_INTERVAL": 0.1,
            "BUMP_AFTER": 4.0,
        }
    },
    "FACILITATORS": {
        "default": {
            "BACKEND": "x402_django.facilitators.LocalFacilitator",
            "OPTIONS": {
                "WALLETS": [{"KEY_ENV": "CHAOS_WALLET_1"}, {"KEY_ENV": "CHAOS_WALLET_2"}],
            },
        }
    },
}
