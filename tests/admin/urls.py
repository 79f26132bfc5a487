"""Routes of every kind, for the list of pages a merchant chooses from."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


leaves = ([path("leaf/", view, name="leaf"), path("nameless/", view)], "outer")
inner = ([re_path(r"^(?P<number>[0-9]+)/", include(leaves))], "inner")

urlpatterns = [
    path("admin/", admin.site.urls),
    path("x402/", include("x402_django.urls")),
    path("in/", include(inner)),
    path("one/", view, name="twice"),
    path("two/", view, name="twice"),
]
