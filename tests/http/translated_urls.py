"""A site whose addresses begin with the visitor's language."""

from django.conf.urls.i18n import i18n_patterns
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from x402_django.http.decorators import payment_required


@payment_required("$0.01")
def weather(request: HttpRequest) -> HttpResponse:
    return HttpResponse("sunny")


urlpatterns = [
    *i18n_patterns(path("wetter/", weather)),
    path("x402/", include("x402_django.urls")),
]
