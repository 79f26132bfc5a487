from django.urls import include, path

from tests.clients.site import views

urlpatterns = [
    path("counted/", views.counted),
    path("counted-async/", views.counted_async),
    path("ledger/", views.ledger),
    path("", include("tests.urls")),
]
