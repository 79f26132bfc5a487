"""The shop with every page of ours, and the desk."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("x402/", include("x402_django.urls")),
    path("", include("tests.shop.urls")),
]
