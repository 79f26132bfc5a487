from django.urls import include, path

urlpatterns = [
    path("facilitator/", include("x402_django.facilitators.urls")),
    path("", include("tests.admin.urls")),
]
