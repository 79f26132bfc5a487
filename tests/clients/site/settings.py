"""Settings of the live site; the chain and the database come from the environment."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from x402_django.chain.devchain import deployment

ROOT_URLCONF = "tests.clients.site.urls"
WSGI_APPLICATION = "tests.clients.site.wsgi.application"

#: Nothing is signed without a format.
SIGNING = {"KEY_ENV": "SITE_SETTLER_KEY", "FORMAT": os.environ.get("SITE_SIGNATURE_FORMAT")}

X402 = {
    "PAY_TO": os.environ["SITE_PAY_TO"],
    "NETWORKS": {
        "eip155:84532": {
            "RPC_URLS": [os.environ["SITE_RPC_URL"]],
            "CONFIRMATIONS": 1,
            "POLL_INTERVAL": 0.05,
            "ASSETS": [
                {
                    "ADDRESS": deployment.TOKEN_ADDRESS,
                    "NAME": deployment.TOKEN_NAME,
                    "VERSION": deployment.TOKEN_VERSION,
                    "DECIMALS": deployment.TOKEN_DECIMALS,
                    "SYMBOL": deployment.TOKEN_SYMBOL,
                },
                {
                    "ADDRESS": deployment.PLAIN_TOKEN_ADDRESS,
                    "NAME": "Plain Dollar",
                    "SYMBOL": "PUSD",
                },
            ],
        }
    },
    "SETTLEMENT_TIMEOUT": float(os.environ.get("SITE_SETTLEMENT_TIMEOUT", "25")),
    "EXTENSIONS": {
        "sign-in-with-x": {},
        "offer-receipt": {"OPTIONS": SIGNING} if SIGNING["FORMAT"] else None,
    },
    "SERVICE_FACILITATOR": "default",
    "BASE_URL": os.environ.get("SITE_BASE_URL"),
    "FACILITATORS": {
        "default": {
            "BACKEND": "x402_django.facilitators.LocalFacilitator",
            "OPTIONS": {"KEY_ENV": "SITE_SETTLER_KEY", "MAX_APPROVAL_COST": 10**16},
        }
    },
}
if os.environ.get("SITE_FACILITATOR_URL"):
    X402["SERVICE_FACILITATOR"] = "own"
    X402["FACILITATORS"]["own"] = X402["FACILITATORS"]["default"]
    X402["FACILITATORS"]["default"] = {
        "BACKEND": "x402_django.facilitators.RemoteFacilitator",
        "OPTIONS": {
            "URL": os.environ["SITE_FACILITATOR_URL"],
            "AUTH": "tests.clients.site.keys.headers",
            "TIMEOUT": 30,
        },
    }
