"""Settings of the benchmark site. ``databases.py`` says where its databases are."""

from __future__ import annotations

SECRET_KEY = "not secret: used by the benchmarks only"
DEBUG = False
ALLOWED_HOSTS = ["shop.example"]
ROOT_URLCONF = "benchmarks.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "x402_django",
]

#: What every site has; the bare view is measured behind these alone.
BARE_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
MIDDLEWARE = [*BARE_MIDDLEWARE, "x402_django.http.middleware.PaymentMiddleware"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",  # a file, once databases.configure has run
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    },
}

NETWORK = "eip155:84532"
#: A public test address; nobody is paid.
PAY_TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"

X402 = {
    "PAY_TO": PAY_TO,
    "BASE_URL": "https://shop.example",
    "NETWORKS": {NETWORK: {}},
    "FACILITATORS": {"default": {"BACKEND": "benchmarks.facilitators.InstantFacilitator"}},
    # Limits that are checked and never reached.
    "DEFERRED_MIN_SETTLED": 0,
    "DEFERRED_MAX_EXPOSURE_PER_PAYER": 1_000_000,
    "DEFERRED_MAX_EXPOSURE": 1_000_000,
}
