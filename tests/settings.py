"""Settings of the test suite. SQLite by default; ``DATABASE_URL`` chooses another database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import dj_database_url

SECRET_KEY = "not secret: used by the test suite only"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "shop.example", "127.0.0.1", "localhost"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "x402_django",
    "tests.shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "x402_django.http.middleware.PaymentMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast: guards nothing

DATABASES = {
    "default": dj_database_url.config(default="sqlite:///" + os.environ.get("X402_TEST_DB", "")),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, not memory: several threads and processes must see one database.
    DATABASES["default"]["NAME"] = DATABASES["default"]["NAME"] or "test.sqlite3"
    # Named after the process: runs side by side, and xdist's workers, each have their own.
    DATABASES["default"]["TEST"] = {
        "NAME": os.environ.get("X402_TEST_DB_FILE")
        or str(Path(tempfile.gettempdir()) / f"x402-test-{os.getpid()}.sqlite3")
    }
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
DATABASES["default"]["ATOMIC_REQUESTS"] = os.environ.get("X402_TEST_ATOMIC_REQUESTS") == "1"

#: Public test addresses; no key of theirs is in use anywhere.
PAY_TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
TEST_DOLLAR = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"

X402 = {
    "PAY_TO": PAY_TO,
    "BASE_URL": "https://shop.example",
    "NETWORKS": {"eip155:84532": {"RPC_URLS": ["http://127.0.0.1:9"], "CONFIRMATIONS": 1}},
    "FACILITATORS": {
        "default": {"BACKEND": "x402_django.testing.instant.InstantFacilitator"},
    },
    "SETTLEMENT_TIMEOUT": 10,
}
