from django.urls import include, path

from tests.clients.site import views

urlpatterns = [
    path("counted/", views.counted),
    path("kept/", views.kept),
    path("counted-async/", views.counted_async),
    path("by-permit2/", views.by_permit2),
    path("metered/", views.metered),
    path("ledger/", views.ledger),
    path("facilitator/", include("x402_django.facilitators.urls")),
    path("", include("tests.urls")),
]
