"""Where services send their notices about the chain: ``x402/webhooks/<name>/``.

A notice is verified, remembered and handed to a Celery worker, which looks at the chain. It is
answered before that: services wait a few seconds and then send it again.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final

from django.db import Error as DatabaseTrouble
from django.db import transaction
from django.http import Http404, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.exceptions import ConfigurationError, InvalidNotice, MalformedPayment, X402Error
from x402_django.http.responses import json_response
from x402_django.payments import noticed

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.conf_entries import ChainWebhookSettings

logger = logging.getLogger("x402_django.http")

#: Bytes of a notice; real ones have a few thousand.
MAX_BODY: Final = 512 * 1024
TASK: Final = "x402_django.look_at_payments"
#: Seconds after which the periodic run will have looked itself.
_EXPIRES: Final = 60


@csrf_exempt
@transaction.non_atomic_requests
@require_POST
def receive(request: HttpRequest, name: str) -> HttpResponse:
    """Take a notice of the webhook ``name``. Always 200 for one that is good, also if known."""
    settings = x402.chain_webhooks.get(name)
    if settings is None:
        raise Http404("No such webhook.")
    try:
        body = bytes(request.read(MAX_BODY + 1))
        if len(body) > MAX_BODY:
            return _refused(413, X402Error("The notice is too large.", code=Code.BODY_TOO_LARGE))
        return _take(request, settings, body)
    except InvalidNotice as error:
        return _refused(401, error)
    except (MalformedPayment, UnreadablePostError):
        return _refused(400, MalformedPayment("The notice cannot be read."))
    except ConfigurationError as error:
        logger.error("The webhook %s is set up wrongly: %s", name, error)
    except DatabaseTrouble:
        logger.exception("A notice of the webhook %s could not be taken.", name)
    return _refused(503, X402Error("Try again later.", code=Code.UNAVAILABLE))


def _take(request: HttpRequest, settings: ChainWebhookSettings, body: bytes) -> HttpResponse:
    from celery import current_app  # not before it is needed: it is slow to load

    from x402_django.chain.notices import read_notice

    named = read_notice(settings, request.headers, body)
    digest = hashlib.sha256(body).hexdigest()
    if not noticed.remember(settings.name, digest):
        return json_response({"status": "known"}, status=200)
    payments = noticed.concerned(named)
    if payments:
        try:
            current_app.send_task(
                TASK, args=[payments], expires=_EXPIRES, ignore_result=True, retry=False
            )
        except Exception as error:  # noqa: BLE001 - any broker's own errors
            # Only a hint is lost, and the service sends it again.
            logger.warning("The broker took no notice: %s", type(error).__name__)
            noticed.forget(settings.name, digest)
            return _refused(503, X402Error("Try again later.", code=Code.UNAVAILABLE))
    return json_response({"status": "taken", "payments": len(payments)}, status=200)


def _refused(status: int, error: X402Error) -> HttpResponse:
    response = json_response({"error": error.code, "message": str(error)}, status=status)
    response["Cache-Control"] = "no-store"
    return response
