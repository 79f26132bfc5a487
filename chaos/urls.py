"""What is for sale: each address can be bought once by one buyer, so that doubles show."""

from django.urls import include, path

from chaos import site

urlpatterns = [
    path("up/", site.up, name="up"),
    path("items/<int:size>/<slug:name>/", site.item, name="item"),
    path("reports/<int:size>/<slug:name>/", site.report, name="report"),
    path("orders/<int:size>/<slug:name>/", site.order, name="order"),
    path("ticks/<int:size>/<slug:name>/", site.tick, name="tick"),
    path("x402/", include("x402_django.urls")),
]
