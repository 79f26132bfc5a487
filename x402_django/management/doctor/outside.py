"""The site as a buyer meets it: over HTTP, with whatever stands in between.

Nothing is paid: what is sent as a payment is so malformed that nothing can come of it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from django.urls import NoReverseMatch, reverse

from x402_django import clock
from x402_django.constants import PAYMENT_HEADERS, PAYMENT_REQUIRED_HEADER
from x402_django.management.doctor.inside import SKEW
from x402_django.management.doctor.routes import PaidRoute
from x402_django.management.doctor.symptom import Probe, Symptom

#: Longer than real payments, shorter than what the site refuses (MAX_HEADER_BYTES).
_LONG: Final = 6000
_ORIGIN: Final = "https://doctor.example"
_CACHE_HEADERS: Final = ("X-Cache", "CF-Cache-Status", "X-Cache-Status", "X-Varnish-Cache")


class Visit:
    """Looks at a site's paid pages. ``base`` is its address; ``client`` follows no redirects."""

    def __init__(self, base: str, client: httpx.Client, routes: Sequence[PaidRoute]) -> None:
        self._base = base.rstrip("/")
        self._client = client
        self._routes = [route for route in routes if route.path]

    def probes(self) -> dict[str, Probe]:
        """What there is to look at once the site is reachable, by the names that are shown."""
        found: dict[str, Probe] = {"challenges": self.challenges}
        if self._routes:
            found.update(
                headers=self.headers, caching=self.caching, cors=self.cors, address=self.address
            )
        return found

    def _get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.request(method, self._base + path, headers=named)

    def reachable(self) -> Iterator[Symptom]:
        """Whether the site answers, this app's pages are there, and the clocks agree."""
        try:
            path = reverse("x402:live")
        except NoReverseMatch:
            return  # `settings` says so (W007)
        try:
            response = self._get(path)
        except httpx.HTTPError as error:
            yield Symptom(
                "site_unreachable",
                f"{self._base} does not answer ({type(error).__name__}).",
                "Is the address right, the server running, its certificate good?",
            )
            return
        if response.status_code == 400:
            yield Symptom(
                "host_refused",
                f"{self._base} answers 400 to its own address.",
                "Add the host to ALLOWED_HOSTS.",
            )
        elif response.status_code != 200:
            yield Symptom(
                "pages_missing",
                f"{path} answers {response.status_code}.",
                "Have the proxy pass everything under x402_django.urls to Django: receipts and "
                "the status of payments are there.",
            )
        yield from _clock(response)

    def challenges(self) -> Iterator[Symptom]:
        """Whether each paid page asks for payment, and in words that clients understand."""
        for route in self._routes:
            try:
                response = self._get(route.path)
            except httpx.HTTPError as error:
                yield Symptom(
                    "page_unreachable",
                    f"{route.path} does not answer ({type(error).__name__}).",
                    "See the server's log.",
                )
                continue
            yield from _unasked(route.path, response)
            if response.status_code == 402:
                challenge = _decoded(response)
                if challenge is None or not challenge.get("accepts"):
                    yield Symptom(
                        "challenge_lost",
                        f"{route.path} answers 402 without a readable {PAYMENT_REQUIRED_HEADER}.",
                        "Have the proxy pass the site's response headers, of 8 KB and more.",
                    )

    def headers(self) -> Iterator[Symptom]:
        """Whether payment headers come through, also long ones."""
        path = self._routes[0].path
        for name in PAYMENT_HEADERS:
            response = self._get(path, **{name: "!"})
            if response.status_code == 402:
                yield Symptom(
                    "header_stripped",
                    f"{name} does not arrive: something in between removes it.",
                    f"Have the proxy pass the request header {name}.",
                )
                return
        response = self._get(path, **{PAYMENT_HEADERS[0]: "!" * _LONG})
        if response.status_code != 400:
            yield Symptom(
                "header_too_long",
                f"A payment header of {_LONG} bytes is answered {response.status_code}.",
                "Let the proxy and the server take request headers of 16 KB.",
            )

    def caching(self) -> Iterator[Symptom]:
        """Whether something in between keeps what is one buyer's alone."""
        response = self._get(self._routes[0].path)
        if response.status_code != 402:
            return
        directives = response.headers.get("Cache-Control", "")
        if "no-store" not in directives:
            yield Symptom(
                "cache_control",
                f"The challenge's Cache-Control is {directives or 'missing'}; it was no-store.",
                "Have nothing in between write Cache-Control of paid pages: a stored challenge is "
                "stale, and a stored paid page is free.",
            )
        hit = any("hit" in response.headers.get(name, "").lower() for name in _CACHE_HEADERS)
        if hit or response.headers.get("Age", "0") != "0":
            yield Symptom(
                "cached",
                "The challenge came from a cache.",
                "Keep paid pages out of the CDN's cache, and have it heed Vary and Cache-Control.",
            )

    def cors(self) -> Iterator[Symptom]:
        """Whether clients in browsers of other origins, where they are let in, can pay."""
        path = self._routes[0].path
        preflight = self._get(
            path,
            "OPTIONS",
            Origin=_ORIGIN,
            Access_Control_Request_Method="GET",
            Access_Control_Request_Headers="payment-signature",
        )
        if preflight.status_code >= 400:
            yield Symptom(
                "preflight",
                f"A preflight (OPTIONS) is answered {preflight.status_code}.",
                "Let OPTIONS through whatever stands before the site: it costs nothing and sends "
                "no cookies.",
            )
            return
        response = self._get(path, Origin=_ORIGIN)
        if "Access-Control-Allow-Origin" not in response.headers:
            return  # no browser of another origin is let in: that is the site's choice
        exposed = response.headers.get("Access-Control-Expose-Headers", "").lower()
        allowed = preflight.headers.get("Access-Control-Allow-Headers", "").lower()
        if PAYMENT_REQUIRED_HEADER.lower() not in exposed and exposed != "*":
            yield Symptom(
                "cors_exposed",
                "Browsers of other origins may ask, but not read the challenge.",
                "Name the origins in X402['CORS_ORIGINS']; or, with django-cors-headers, name "
                f"{PAYMENT_REQUIRED_HEADER} and PAYMENT-RESPONSE in CORS_EXPOSE_HEADERS.",
            )
        if "payment-signature" not in allowed and allowed != "*":
            yield Symptom(
                "cors_allowed",
                "Browsers of other origins may ask, but not send a payment.",
                "Name the origins in X402['CORS_ORIGINS']; or, with django-cors-headers, name "
                "payment-signature and x-payment in CORS_ALLOW_HEADERS.",
            )

    def address(self) -> Iterator[Symptom]:
        """Whether challenges name the address that buyers use, and nobody can listen."""
        here = urlsplit(self._base)
        if here.scheme != "https" and here.hostname not in ("localhost", "127.0.0.1", "::1"):
            yield Symptom(
                "plain_http",
                "The site is sold over plain http: what is paid for can be read on the way.",
                "Serve it over TLS.",
            )
        challenge = _decoded(self._get(self._routes[0].path)) or {}
        named = urlsplit(str((challenge.get("resource") or {}).get("url", "")))
        if named.netloc and (named.scheme, named.netloc) != (here.scheme, here.netloc):
            yield Symptom(
                "other_address",
                f"Challenges name {named.scheme}://{named.netloc}; buyers come to {self._base}.",
                f"Set X402['BASE_URL'] = {self._base!r}; behind a proxy also "
                "SECURE_PROXY_SSL_HEADER.",
            )


def _unasked(path: str, response: httpx.Response) -> Iterator[Symptom]:
    status = response.status_code
    if status == 402:
        return
    if 200 <= status < 300:
        yield Symptom(
            "served_free",
            f"{path} is served for nothing (status {status}).",
            "Is PaymentMiddleware installed where this is served? Does a cache, or something "
            "before Django, answer for it? Take it off the net until it asks for payment.",
        )
    elif status == 503:
        yield Symptom(
            "no_price",
            f"{path} cannot be sold (503, {_code(response)}).",
            "It has no price, or no way of being paid: see the price rules and payment methods in "
            "the admin, and the site's log.",
        )
    else:
        yield Symptom(
            "not_asked",
            f"{path} answers {status} where it should ask for payment (402).",
            "Something before the payment gate answers (a log-in, a redirect, a firewall): agents "
            "cannot pass that. Move it behind the payment, or do not sell this page.",
        )


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json().get("error", "no code"))
    except (ValueError, AttributeError):
        return "no code"


def _decoded(response: httpx.Response) -> dict[str, Any] | None:
    try:
        header = response.headers.get(PAYMENT_REQUIRED_HEADER, "")
        challenge = json.loads(base64.b64decode(header, validate=True))
    except (ValueError, binascii.Error):
        return None
    return challenge if isinstance(challenge, dict) else None


def _clock(response: httpx.Response) -> Iterator[Symptom]:
    try:
        there = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return
    difference = (clock.now() - there.astimezone(UTC)).total_seconds()
    if abs(difference) > SKEW:
        ahead = "ahead of" if difference > 0 else "behind"
        yield Symptom(
            "clock",
            f"This machine's clock is {abs(difference):.0f} seconds {ahead} the web server's "
            f"({datetime.isoformat(there)}).",
            "Set all clocks by NTP: payments are valid between two times.",
        )
