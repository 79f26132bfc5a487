"""URLs a site may include, under any prefix: ``path("x402/", include("x402_django.urls"))``."""

from django.urls import path

from x402_django.http import health
from x402_django.http.chain_webhooks import receive
from x402_django.http.discovery import discovery, openapi
from x402_django.http.keys import keys
from x402_django.http.metrics import metrics
from x402_django.http.pay_page import pay_page
from x402_django.http.receipts import my_receipts, receipt, receipt_pdf
from x402_django.http.status import identified_payment, payment_status

app_name = "x402"
urlpatterns = [
    path("discovery/", discovery, name="discovery"),
    path("openapi.json", openapi, name="openapi"),
    path("keys/", keys, name="keys"),
    path("payments/<slug:public_id>/", payment_status, name="payment-status"),
    path(
        "identifiers/<str:payer>/<slug:identifier>/",
        identified_payment,
        name="payment-by-identifier",
    ),
    path("receipts/", my_receipts, name="receipts"),
    path("receipts/<slug:reference>/", receipt, name="receipt"),
    path("receipts/<slug:reference>/receipt.pdf", receipt_pdf, name="receipt-pdf"),
    path("health/", health.health, name="health"),
    path("health/live/", health.live, name="live"),
    path("health/ready/", health.ready, name="ready"),
    path("metrics/", metrics, name="metrics"),
    path("pay/<str:challenge_id>/", pay_page, name="pay"),
    path("webhooks/<slug:name>/", receive, name="chain-webhook"),
]
