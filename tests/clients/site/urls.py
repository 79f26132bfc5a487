from django.urls import include, path

from tests.clients.site import views

urlpatterns = [
    path("counted/", views.counted),
    path("kept/", views.kept),
    path("counted-async/", views.counted_async),
    *(path(f"{key}/", view) for key, view in views.BY_RULE.items()),
    path("ledger/", views.ledger),
    path("facilitator/", include("x402_django.facilitators.urls")),
    path("", include("tests.urls")),
]
