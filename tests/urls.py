from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("x402_django.root_urls")),
    path("x402/", include("x402_django.urls")),
    path("", include("tests.shop.urls")),
]
