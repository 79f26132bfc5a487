"""The numbers of the shop, for Prometheus, to whoever holds the token.

What a shop earns is nobody else's business, so there is no endpoint unless the setting
``METRICS_TOKEN_ENV`` names a token.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.http import Http404, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from x402_django.conf import x402
from x402_django.http.responses import json_response
from x402_django.http.state import never_for_sale
from x402_django.payments.counters import is_available
from x402_django.payments.gauges import LedgerCollector

if TYPE_CHECKING:
    from django.http import HttpRequest


@never_for_sale
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Counters of this process (or of all, see ``payments.counters``), and the ledger's gauges.

    404 where there is no token or no client library, 401 for another token.
    """
    token = os.environ.get(x402.metrics_token_env or "", "")
    if not token or not is_available():
        raise Http404("No such page.")
    presented = request.headers.get("Authorization", "")
    if not constant_time_compare(presented, f"Bearer {token}"):
        body = {"error": "unauthorized", "message": "Send the metrics token as a bearer token."}
        response = json_response(body, status=401)
        response["WWW-Authenticate"] = "Bearer"
        return response
    return _exposition()


def _exposition() -> HttpResponse:
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    ledger = CollectorRegistry(auto_describe=False)
    ledger.register(LedgerCollector())
    counted = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        counted = CollectorRegistry()
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
    content = generate_latest(counted) + generate_latest(ledger)
    return HttpResponse(content, content_type=CONTENT_TYPE_LATEST)
