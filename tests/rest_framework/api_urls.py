from django.urls import include, path

urlpatterns = [
    path("x402-api/", include("x402_django.rest_framework.api.urls")),
    path("", include("tests.rest_framework.urls")),
]
