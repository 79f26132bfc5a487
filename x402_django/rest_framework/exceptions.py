"""What DRF's own machinery renders: a 402 that is asked for, and a 503 that cannot be sold.

Both go through the site's ``EXCEPTION_HANDLER`` and renderers like every other API error. The
gate then puts the v2 challenge in the headers of the 402, whatever became of its body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import status
from rest_framework.exceptions import APIException

from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.exceptions import PaymentRequired, ServiceUnavailable

if TYPE_CHECKING:
    from x402_django.protocol.challenge import Challenge


class PaymentRequiredAPIException(APIException):
    """402 Payment Required. Raised by ``HasPaid``; views raise ``PaymentRequired`` instead.

    ``detail`` is the v1 challenge: rendered as JSON it is what clients of x402 v1 read. An
    ``EXCEPTION_HANDLER`` that gives errors another shape keeps its shape here too, and then only
    clients of v2 can pay, for they read the header. To serve both, leave 402 alone::

        def handler(exc, context):
            response = exception_handler(exc, context)
            if response is not None and response.status_code != 402:
                response.data = {"errors": response.data}
            return response
    """

    status_code = status.HTTP_402_PAYMENT_REQUIRED
    default_detail = PaymentRequired.message
    default_code = Code.PAYMENT_REQUIRED

    detail: Any

    def __init__(self, challenge: Challenge) -> None:
        # Not through super(), which turns every number of the body into a string.
        self.challenge = challenge
        self.detail = challenge.v1_body()

    def get_codes(self) -> Any:
        return self.default_code

    def get_full_details(self) -> Any:
        return {"message": self.detail["message"], "code": self.default_code}


class PaymentUnavailableAPIException(APIException):
    """503: the view is for sale, but no price can be quoted now. Never free, never 402.

    ``wait`` (seconds) becomes ``Retry-After``. The body is that of the gate's other 503 answers.
    """

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = ServiceUnavailable.message
    default_code = Code.UNAVAILABLE

    detail: Any

    def __init__(self, trouble: ServiceUnavailable) -> None:
        self.wait = x402.retry_after
        self.code = trouble.code
        self.detail = {"error": trouble.code, "message": str(trouble), "retryable": True}

    def get_codes(self) -> Any:
        return self.code

    def get_full_details(self) -> Any:
        return {"message": self.detail["message"], "code": self.code}
