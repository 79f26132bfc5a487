"""The facilitator service: ``path("facilitator/", include("x402_django.facilitators.urls"))``.

The address is the outside's; the views are HTTP's. This is the one module of the room that looks
up the layers (``pyproject.toml`` names it), and nothing inside imports it.
"""

from django.urls import path

from x402_django.http import facilitation

app_name = "x402-facilitator"
urlpatterns = [
    path("verify", facilitation.verify, name="verify"),
    path("settle", facilitation.settle, name="settle"),
    path("supported", facilitation.supported, name="supported"),
    path("discovery/resources", facilitation.resources, name="resources"),
]
