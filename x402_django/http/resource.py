"""What is being bought: the canonical URL of a request and its fingerprint."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from x402_django.conf import x402
from x402_django.constants import PAYMENT_HEADERS, PROOF_HEADERS
from x402_django.payments.facts import RequestFacts

if TYPE_CHECKING:
    from django.http import HttpRequest

#: Payment headers by their keys in ``request.META``. Read there, because building
#: ``request.headers`` goes through every header, on every request of the site.
_META_KEYS: Final = {"HTTP_" + name.replace("-", "_"): name for name in PAYMENT_HEADERS}
_PROOF_META_KEYS: Final = {"HTTP_" + name.upper().replace("-", "_"): name for name in PROOF_HEADERS}


#: What stays as it is in a path, in every browser and in Django's ``reverse``. Not "%": no two
#: paths may have one URL. Not ";": it would end the ``Path`` of a cookie.
UNQUOTED: Final = "/~:@!$&'()*+=,"


def payment_headers(request: HttpRequest) -> dict[str, str]:
    """The request's payment headers, by their names; empty if it carries no payment."""
    meta = request.META
    return {name: meta[key] for key, name in _META_KEYS.items() if key in meta}


def proof_headers(request: HttpRequest) -> dict[str, str]:
    """The request's transfer proofs, by the names of their headers; empty if it carries none."""
    meta = request.META
    return {name: meta[key] for key, name in _PROOF_META_KEYS.items() if key in meta}


def carries_payment(request: HttpRequest) -> bool:
    """Whether the request carries a payment of any kind, good or bad."""
    return bool(payment_headers(request) or proof_headers(request))


def resource_url(request: HttpRequest) -> str:
    """The canonical URL without its query string.

    The origin is ``X402["BASE_URL"]``, or else the request's host, which Django has checked
    against ALLOWED_HOSTS. Queries are left out: they may name people, and the URL is shown to
    facilitators and printed on receipts (threat 23).
    """
    return resource_origin(request) + canonical_path(request)


def canonical_path(request: HttpRequest) -> str:
    """The path of ``request``, percent-encoded; of two different paths, two different ones.

    ``request.path`` is decoded, so ``iri_to_uri`` would take "caf%25C3%25A9" for "café", and a
    payment for the one would open the other (threats 6 and 18).
    """
    return quote(request.path, safe=UNQUOTED) or "/"


def resource_origin(request: HttpRequest) -> str:
    """Scheme and host of the site's canonical URLs, without a trailing slash."""
    return x402.base_url or f"{request.scheme}://{request.get_host()}"


def request_facts(request: HttpRequest) -> RequestFacts:
    """What a payment is bound to. Reads the whole body into memory.

    Raises django.core.exceptions.RequestDataTooBig past DATA_UPLOAD_MAX_MEMORY_SIZE.
    """
    method = request.method or "GET"
    url = resource_url(request)
    query = request.META.get("QUERY_STRING", "")
    fingerprint = _fingerprint(method, url, query, request.content_type or "", request.body)
    return RequestFacts(method=method, resource_url=url, fingerprint=fingerprint)


def fingerprint_of_get(url: str, query: str) -> str:
    """The fingerprint of a plain GET of a canonical ``url`` with this ``query``."""
    return _fingerprint("GET", url, query, "", b"")


def _fingerprint(method: str, url: str, query: str, content_type: str, body: bytes) -> str:
    bound = "\n".join((method, url, query, content_type, hashlib.sha256(body).hexdigest()))
    return hashlib.sha256(bound.encode("utf-8", "surrogateescape")).hexdigest()
