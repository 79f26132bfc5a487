"""A read-only API for the merchant's own programs: price rules, payments, receipts.

::

    urlpatterns = [path("x402-api/", include("x402_django.rest_framework.api.urls")), ...]

Who asks is authenticated as by the site's other APIs (``DEFAULT_AUTHENTICATION_CLASSES``), and
needs Django's permissions to view. Members of a merchant see what is theirs.
"""
