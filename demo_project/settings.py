"""Settings of the demo shop, written the way a production site's may be.

Everything that differs between machines comes from the environment; without any, this is a shop
on the embedded development chain, with its files in ``var/``. The last section is all that
x402-django needs.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

env = os.environ.get

BASE_DIR = Path(__file__).resolve().parent.parent
#: Everything the demo writes: database, logs, messages, static files.
VAR_DIR = Path(env("DEMO_VAR_DIR", BASE_DIR / "var"))


def secret_key(path: Path) -> str:
    """The key of this checkout, made when first needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Whole or not at all, readable by us alone, and the same for all who start at once.
        own = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(own, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        with suppress(FileExistsError):
            os.link(own, path)
        own.unlink()
    return path.read_text()


DEBUG = env("DEBUG") == "1"
SECRET_KEY = env("SECRET_KEY") or secret_key(VAR_DIR / "secret_key")
ALLOWED_HOSTS = env("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]").split(",")

#: Where buyers find the shop, if not where it listens, e.g. https://shop.example.
PUBLIC_URL = env("PUBLIC_URL")
if PUBLIC_URL and PUBLIC_URL.startswith("https://"):
    CSRF_TRUSTED_ORIGINS = [PUBLIC_URL.rstrip("/")]
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

#: ``DEMO_ADMIN=unfold``: the admin in the looks of django-unfold, which is to be installed.
ADMIN_LOOKS = ["unfold"] if env("DEMO_ADMIN") == "unfold" else []
INSTALLED_APPS = [
    *ADMIN_LOOKS,
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "x402_django",
    "demo_project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "x402_django.http.middleware.PaymentMiddleware",  # last: nearest to the views
]
ROOT_URLCONF = "demo_project.urls"
ASGI_APPLICATION = "demo_project.asgi.application"
WSGI_APPLICATION = "demo_project.wsgi.application"
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
STATIC_ROOT = VAR_DIR / "static"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

#: Names of chains that begin anew each time; the demo forgets their ledger when it starts.
DEVELOPMENT_NETWORKS = ("eip155:1337", "eip155:31337")
NETWORK = env("X402_NETWORK") or DEVELOPMENT_NETWORKS[0]
SQLITE_FILE = VAR_DIR / ("demo.sqlite3" if NETWORK in DEVELOPMENT_NETWORKS else "shop.sqlite3")

DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{SQLITE_FILE}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # Several processes write: readers do not wait (WAL), and a transaction takes its write
        # lock at the start instead of failing when it first writes (IMMEDIATE).
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }

CELERY_BROKER_URL = env("CELERY_BROKER_URL", "filesystem://localhost")
if CELERY_BROKER_URL.startswith("filesystem:"):
    MESSAGES_DIR = VAR_DIR / "celery"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(MESSAGES_DIR / "messages"),
        "data_folder_out": str(MESSAGES_DIR / "messages"),
        "control_folder": str(MESSAGES_DIR / "control"),
    }
    for name in ("messages", "control"):
        (MESSAGES_DIR / name).mkdir(parents=True, exist_ok=True)
    SILENCED_SYSTEM_CHECKS = ["x402_django.W002"]  # such a broker serves one machine: this one
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        name: {"level": env("LOG_LEVEL", "INFO")} for name in ("x402_django", "celery", "django")
    },
}

# --- x402-django -------------------------------------------------------------------------------

#: The worthless dollar of ``manage.py x402_devchain``.
TEST_DOLLAR: dict[str, object] = {
    "ADDRESS": "0x700b6A60ce7EaaEA56F065753d8dcB9653dbAD35",
    "NAME": "Test Dollar",
    "SYMBOL": "TUSD",
}
#: Who is paid on the development chain; the key is public, so never on another.
TEST_PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"

ON_DEVCHAIN = NETWORK == "eip155:1337"
if ON_DEVCHAIN:
    # Everybody knows this key: it is the first one of every development chain. On any other
    # network the settlement wallet's key must be given, and is never written here.
    os.environ.setdefault(
        "X402_SETTLER_KEY", "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    )


def assets() -> list[dict[str, object]]:
    """The token that is asked for; empty where the network's usual dollar will do."""
    address = env("X402_ASSET")
    if not address:
        return [TEST_DOLLAR] if ON_DEVCHAIN else []
    try:
        name, version = os.environ["X402_ASSET_NAME"], os.environ["X402_ASSET_VERSION"]
    except KeyError as missing:
        raise ImproperlyConfigured(
            f"X402_ASSET needs {missing.args[0]}, a part of the token's EIP-712 domain. "
            "`make demo` and `make serve` read it from the contract."
        ) from None
    return [
        {
            "ADDRESS": address,
            "NAME": name,
            "VERSION": version,
            "SYMBOL": env("X402_ASSET_SYMBOL") or name,
            "DECIMALS": int(env("X402_ASSET_DECIMALS") or 6),
        }
    ]


def wallet_rpc_urls() -> list[str]:
    """What visitors' wallets are told; the development chain is no secret, another node may be."""
    given = env("X402_WALLET_RPC_URL") or (env("X402_RPC_URL") if ON_DEVCHAIN else None)
    return given.split(",") if given else []


def facilitator() -> dict[str, object]:
    """Who settles: a facilitator service if one is named, else this shop's own wallet."""
    if url := env("X402_FACILITATOR_URL"):
        return {
            "BACKEND": "x402_django.facilitators.RemoteFacilitator",
            "OPTIONS": {"URL": url},
        }
    return {
        "BACKEND": "x402_django.facilitators.LocalFacilitator",
        "OPTIONS": {"KEY_ENV": "X402_SETTLER_KEY"},
    }


X402: dict[str, Any] = {
    "PAY_TO": env("X402_PAY_TO") or (TEST_PAYEE if ON_DEVCHAIN else None),
    "BASE_URL": PUBLIC_URL,
    "NETWORKS": {
        NETWORK: {
            "RPC_URLS": (env("X402_RPC_URL") or "http://127.0.0.1:8545").split(","),
            "WALLET_RPC_URLS": wallet_rpc_urls(),
            "CONFIRMATIONS": int(env("X402_CONFIRMATIONS", "1")),
            "NAME": env("X402_NETWORK_NAME", ""),
            "ASSETS": assets(),
        }
    },
    "FACILITATORS": {"default": facilitator()},
    "EXTENSIONS": {"sign-in-with-x": {}},
    "CONFIRMATION_INTERVAL": float(env("X402_CONFIRMATION_INTERVAL", "2")),
    "CHALLENGE_COUNT_INTERVAL": 1.0,  # nobody who looks at a demo waits ten seconds
}
