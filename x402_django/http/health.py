"""Health endpoints, for load balancers and monitoring: no secret, no amount, no payer.

============  =========================================================================
``live``      this process answers; asks nothing of anybody
``ready``     and has its database: it may be sent requests
``health``    and money is looked after; names what is not, without saying how much
============  =========================================================================

None is in a transaction of ATOMIC_REQUESTS: without a database that would fail before they run.

Do not restart or take out a web server by ``health``: what it finds is seldom this process's, and
a shop whose worker is down still sells nothing wrongly.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import Error as DatabaseTrouble
from django.db import connections, router, transaction
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from x402_django.http.responses import json_response
from x402_django.http.state import never_for_sale
from x402_django.models import Payment
from x402_django.payments.health import findings

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("x402_django.http")


@never_for_sale
@never_cache
@require_safe
@transaction.non_atomic_requests
def live(request: HttpRequest) -> HttpResponse:
    """200, always."""
    return json_response({"status": "ok"}, status=200)


@never_for_sale
@never_cache
@require_safe
@transaction.non_atomic_requests
def ready(request: HttpRequest) -> HttpResponse:
    """200, or 503 without the ledger's database."""
    try:
        with connections[router.db_for_write(Payment)].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseTrouble:
        return _without_database()
    return json_response({"status": "ok"}, status=200)


@never_for_sale
@never_cache
@require_safe
@transaction.non_atomic_requests
def health(request: HttpRequest) -> HttpResponse:
    """200 if all is well, otherwise 503; which of the checks are well, by their names."""
    try:
        found = findings()
    except DatabaseTrouble:
        return _without_database()
    checks = {one.name: "ok" if one.is_well else "attention" for one in found}
    well = all(one.is_well for one in found)
    body = {"status": "ok" if well else "attention", "checks": {"database": "ok", **checks}}
    return json_response(body, status=200 if well else 503)


def _without_database() -> HttpResponse:
    logger.exception("Health: the ledger's database is out of reach.")
    body = {"status": "attention", "checks": {"database": "attention"}}
    return json_response(body, status=503)
