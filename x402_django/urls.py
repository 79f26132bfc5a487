"""URLs a site may include, under any prefix: ``path("x402/", include("x402_django.urls"))``."""

from django.urls import path

from x402_django.http.chain_webhooks import receive
from x402_django.http.pay_page import pay_page
from x402_django.http.status import payment_status

app_name = "x402"
urlpatterns = [
    path("payments/<slug:public_id>/", payment_status, name="payment-status"),
    path("pay/<str:challenge_id>/", pay_page, name="pay"),
    path("webhooks/<slug:name>/", receive, name="chain-webhook"),
]
