"""URLs a site may include, under any prefix: ``path("x402/", include("x402_django.urls"))``."""

from django.urls import path

from x402_django.http.chain_webhooks import receive
from x402_django.http.keys import keys
from x402_django.http.status import payment_status

app_name = "x402"
urlpatterns = [
    path("keys/", keys, name="keys"),
    path("payments/<slug:public_id>/", payment_status, name="payment-status"),
    path("webhooks/<slug:name>/", receive, name="chain-webhook"),
]
