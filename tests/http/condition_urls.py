"""A view of REST framework's, with a name that a rule can choose."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from x402_django.rest_framework.permissions import HasPaid


class Forecast(APIView):
    permission_classes = [HasPaid]
    price = "$0.02"

    def get(self, request: Request) -> Response:
        return Response({"sunny": True})


urlpatterns = [path("forecast/", Forecast.as_view(), name="forecast")]
