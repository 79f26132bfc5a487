"""Metrics: that they can be read, by whoever has the token and nobody else."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from x402_django.checks.raw import TAG, path_of, value


@register(TAG)
def check_metrics(**kwargs: Any) -> list[CheckMessage]:
    """E070, W070: ``METRICS_TOKEN_ENV``."""
    name = value("METRICS_TOKEN_ENV")
    where = path_of("METRICS_TOKEN_ENV")
    if name is None:
        return []
    if not isinstance(name, str) or not name:
        return [_wrong(f"{where} is not the name of an environment variable", "Write a name.")]
    if find_spec("prometheus_client") is None:
        hint = "Install x402-django[prometheus]."
        return [_wrong(f"{where} is set, but prometheus-client is not installed", hint)]
    if not os.environ.get(name, "").strip():
        return [
            Warning(
                f"{where}: the environment variable {name} is not set, so there are no metrics.",
                hint="Set it to a long random text, and give that to Prometheus as bearer token.",
                id="x402_django.W070",
            )
        ]
    return []


def _wrong(what: str, hint: str) -> CheckMessage:
    return Error(f"{what}.", hint=hint, id="x402_django.E070")
