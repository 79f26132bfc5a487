"""URLs whose place is given: ``path("", include("x402_django.root_urls"))``.

``x402_django.urls`` may stand under any prefix; these are looked for at the root of a site.
"""

from django.urls import path

from x402_django.http.discovery import llms_txt, well_known
from x402_django.http.keys import did_document

app_name = "x402-root"
urlpatterns = [
    path(".well-known/x402", well_known, name="well-known"),
    path("llms.txt", llms_txt, name="llms-txt"),
    path(".well-known/did.json", did_document, name="did"),
]
