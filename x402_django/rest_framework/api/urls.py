"""``path("x402-api/", include("x402_django.rest_framework.api.urls"))``."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from x402_django.rest_framework.api.schema import RESOURCES, schema

app_name = "x402-api"

router = SimpleRouter()
for name, _words, view in RESOURCES:
    router.register(f"{name}s", view, basename=name)

urlpatterns = [*router.urls, path("schema/", schema, name="schema")]
