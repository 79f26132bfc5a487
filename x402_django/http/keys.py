"""The site's public keys: what offers and receipts are verified with (extension offer-receipt)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpResponse
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.views.decorators.http import require_safe

from x402_django.extensions import registry
from x402_django.extensions.offer_receipt import KEY, OfferReceipt
from x402_django.extensions.signing import address_of, site_did
from x402_django.http.pages import page_response, prefers_page
from x402_django.http.responses import json_response
from x402_django.http.state import never_for_sale

if TYPE_CHECKING:
    from django.http import HttpRequest

TEMPLATE = "x402_django/keys.html"


@never_for_sale
@require_safe
def keys(request: HttpRequest) -> HttpResponse:
    """Every key that signs or has signed: JSON (a JWK set, RFC 7517), or a page."""
    extension = _extension()
    jwks = [_described(extension.signer.jwk, "current")]
    jwks += [_described(jwk, "retired") for jwk in extension.retired_keys]
    facts = {"did": site_did() or None, "format": extension.signer.format, "keys": jwks}
    if prefers_page(request):
        response = page_response(request, TEMPLATE, facts)
        patch_cache_control(response, no_store=True)  # the site's frame may show who looks at it
    else:
        response = _public(json_response(facts, status=200))
    patch_vary_headers(response, ("Accept",))
    return response


@never_for_sale
@require_safe
def did_document(request: HttpRequest) -> HttpResponse:
    """``/.well-known/did.json``: the same keys as verifiers of ``did:web`` look them up."""
    extension = _extension()
    did = site_did()
    jwks = [extension.signer.jwk, *extension.retired_keys]
    own = [jwk for jwk in jwks if did and str(jwk["kid"]).startswith(f"{did}#")]
    if not own:
        raise Http404("The keys of this site are not named by did:web.")
    methods = [
        {
            "id": jwk["kid"],
            "type": "JsonWebKey2020",
            "controller": did,
            "publicKeyJwk": {name: value for name, value in jwk.items() if name != "kid"},
        }
        for jwk in own
    ]
    document = {
        "@context": [
            "https://www.w3.org/ns/did/v1",
            "https://w3id.org/security/suites/jws-2020/v1",
        ],
        "id": did,
        "verificationMethod": methods,
        "assertionMethod": [method["id"] for method in methods],
    }
    return _public(json_response(document, status=200))


def _extension() -> OfferReceipt:
    extension = registry.enabled().get(KEY)
    if not isinstance(extension, OfferReceipt):
        raise Http404("This site signs no offers and receipts.")
    return extension


def _described(jwk: Any, status: str) -> dict[str, Any]:
    address = address_of(jwk)
    return {**jwk, **({"address": address} if address else {}), "status": status}


def _public(response: HttpResponse) -> HttpResponse:
    # Public facts: a verifier may be a page of any other origin.
    response["Access-Control-Allow-Origin"] = "*"
    patch_cache_control(response, public=True, max_age=300)
    return response
