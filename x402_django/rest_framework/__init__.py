"""Selling Django REST framework views.

::

    from x402_django.rest_framework import HasPaid

    class ForecastView(APIView):
        permission_classes = [IsAuthenticated | HasPaid]
        price = "$0.02"                      # or price_rule = "forecast", or get_price(request)

Where drf-spectacular is installed, sold views describe their 402 in the OpenAPI schema, with
nothing to configure; see ``schema``.
"""

from django.conf import settings

from x402_django.rest_framework.exceptions import (
    PaymentRequiredAPIException,
    PaymentUnavailableAPIException,
)
from x402_django.rest_framework.permissions import HasPaid

__all__ = ["HasPaid", "PaymentRequiredAPIException", "PaymentUnavailableAPIException"]

# A schema is made from URLs, so from views, and a view that is sold has imported this package.
if any(app.partition(".")[0] == "drf_spectacular" for app in settings.INSTALLED_APPS):
    from x402_django.rest_framework import schema as schema
