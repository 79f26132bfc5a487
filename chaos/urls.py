"""What is for sale: each address can be bought once by one buyer, so that doubles show."""

from django.urls import include, path

from chaos import site

urlpatterns = [
    path("up/", site.up, name="up"),
    path("items/<slug:name>/", site.item, name="item"),
    path("orders/<slug:name>/", site.order, name="order"),
    path("x402/", include("x402_django.urls")),
]
