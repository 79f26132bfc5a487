"""Routes of the demo shop. A merchant can put a price on any of the named ones in the admin."""

from django.contrib import admin
from django.urls import include, path

from demo_project import mcp, views
from demo_project.api import ForecastView

urlpatterns = [
    path("", views.index, name="index"),
    path("free/", views.free, name="free"),
    path("weather/", views.weather, name="weather"),
    path("async/quote/", views.quote, name="quote"),
    path("api/forecast/", ForecastView.as_view(), name="forecast"),
    path("llm/", views.llm, name="llm"),
    path("vault/", views.vault, name="vault"),
    path("articles/pass/", views.day_pass, name="day-pass"),
    path("articles/<slug:slug>/", views.article, name="article"),
    path("credits/", views.credits, name="credits"),
    path("broken/", views.broken, name="broken"),
    path("mcp/", mcp.serve, name="mcp"),
    path("x402/", include("x402_django.urls")),
    path("x402-api/", include("x402_django.rest_framework.api.urls")),
    path("", include("x402_django.root_urls")),
    path("admin/", admin.site.urls),
]
