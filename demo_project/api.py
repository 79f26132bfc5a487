"""What the shop sells with Django REST framework."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from demo_project import content
from x402_django.rest_framework import HasPaid


class ForecastOrder(serializers.Serializer[Any]):
    """The body of a POST."""

    place = serializers.CharField(max_length=100)
    days = serializers.IntegerField(min_value=1, max_value=7, default=3)


class ForecastView(APIView):
    """The weather of the days to come.

    GET is settled after the view, so a failed view costs nothing. POST may have effects, so it
    is settled before the view runs; an order that cannot be filled is refused before that.
    """

    permission_classes = [HasPaid]
    price = "$0.02"
    price_description = "Weather forecast"
    price_mime_type = "application/json"

    def get(self, request: Request) -> Response:
        return Response(forecast("here", days=3))

    def validate_request(self, request: Request) -> None:
        """Asked of a request that would be paid for: who sends nonsense is not charged."""
        if request.method == "POST":
            ForecastOrder(data=request.data).is_valid(raise_exception=True)

    def post(self, request: Request) -> Response:
        order = ForecastOrder(data=request.data)
        order.is_valid(raise_exception=True)
        return Response(forecast(**order.validated_data), status=status.HTTP_201_CREATED)

    def get_serializer(self, *args: Any, **kwargs: Any) -> ForecastOrder:
        """The browsable API makes its form from this."""
        return ForecastOrder(*args, **kwargs)


def forecast(place: str, days: int) -> dict[str, Any]:
    """``days`` days of weather for ``place``, from tomorrow on."""
    tomorrow: date = datetime.now(UTC).date() + timedelta(days=1)
    coming = (tomorrow + timedelta(days=number) for number in range(days))
    return {
        "place": place,
        "days": [{"date": day.isoformat(), **content.weather_on(day, place)} for day in coming],
    }
