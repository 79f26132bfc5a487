"""A small shop for the doctor to look over."""

from django.http import HttpResponse
from django.urls import include, path

from x402_django.http.decorators import payment_required


@payment_required("$0.01", description="Weather")
def weather(request):
    return HttpResponse("sunny")


@payment_required(rule="report")
def report(request):
    return HttpResponse("report")


def article(request, slug="bees"):
    return HttpResponse("article")


urlpatterns = [
    path("weather/", weather, name="weather"),
    path("report/", report, name="report"),
    path("bees/", article, name="bees"),
    path("articles/<slug:slug>/", article, name="article"),
    path("x402/", include("x402_django.urls")),
]
