"""Who comes with a pass or with credits, and how: by a bearer token, a browser's cookie, a wallet.

The answer to the purchase of a pass or of credits carries a token (``X-402-Access``). It names the
payment and is signed; what it is worth is decided by the ledger, each time. It is given to who has
just paid, and to a wallet that signs in (``sign-in-with-x``), but never with the replay of a stored
answer: a used authorization can be read off the chain by anybody.

A browser that has bought a pass on the paywall page has the same token as a cookie. Credits are
not spent by cookies: a link on another site is enough to make a browser send one.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from django.core.signing import BadSignature, Signer

from x402_django import clock
from x402_django.constants import (
    ACCESS_TOKEN_HEADER,
    IDEMPOTENCY_KEY_HEADER,
    REMAINING_HEADER,
    Code,
)
from x402_django.exceptions import PaymentRefused
from x402_django.http import responses
from x402_django.http.access import cookie_path
from x402_django.http.resource import request_facts, resource_url
from x402_django.models import HoldingUse, Payment
from x402_django.payments import uses
from x402_django.payments.delivery import replay
from x402_django.payments.holdings import (
    Holder,
    account_of,
    accounts_of,
    book,
    grant_of,
    is_good,
    pass_of,
    purchases_of,
)
from x402_django.pricing.money import format_usd
from x402_django.protocol.identifiers import read_idempotency_key

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from x402_django.http.state import GateState
    from x402_django.models import CreditAccount, Pass
    from x402_django.payments.facts import RequestFacts
    from x402_django.pricing import Quote

_SALT: Final = "x402_django.http.holding"
#: Tells our tokens from others in ``Authorization``.
_MARK: Final = "x402_"
_COOKIE: Final = "x402_pass_"
_META_KEY: Final = "HTTP_" + ACCESS_TOKEN_HEADER.upper().replace("-", "_")
#: Browsers forget cookies after 400 days whatever they are told.
_COOKIE_AGE: Final = 400 * 24 * 3600

#: What answers to a holder depend on.
VARY: Final = ("Cookie", "Authorization", ACCESS_TOKEN_HEADER)


def token_of(payment: Payment) -> str:
    """The bearer token of what ``payment`` has bought; of the characters that RFC 6750 allows."""
    return _MARK + Signer(salt=_SALT, sep=".").sign(payment.public_id)


def presented_token(request: HttpRequest) -> str | None:
    """The token in the request's headers, good or bad; None if there is none of ours."""
    token: str | None = request.META.get(_META_KEY)
    if token is not None:
        return token.strip()
    scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer" and credentials.startswith(_MARK):
        return str(credentials)
    return None


def may_enter(request: HttpRequest) -> bool:
    """Whether the request comes with a token or a pass's cookie, good or bad. No query."""
    if presented_token(request) is not None:
        return True
    return bool(_cookies(request))


def enter(request: HttpRequest, state: GateState, quote: Quote) -> HttpResponseBase | bool:
    """Let a holder in by token or cookie: True, or an answer; False: nothing was presented.

    Raises PaymentRefused for a token that opens nothing here, with the reason; MalformedPayment
    for an ``Idempotency-Key`` that is none; PaymentConflict for one that named something else.
    """
    token = presented_token(request)
    if token is not None:
        payment = _payment_of(token)
        if payment is None:
            raise PaymentRefused(
                f"The token in {ACCESS_TOKEN_HEADER} or Authorization is not one of this site's.",
                code=Code.INVALID_ACCESS_TOKEN,
            )
        if payment.is_paid:
            state.payer = payment.payer
        return _enter_by(request, state, quote, payment)
    for cookie in _cookies(request):
        payment = _payment_of(cookie)
        held = None if payment is None else _opening_pass(request, quote, payment)
        if payment is not None and held is not None and is_good(held):
            return _let_in(request, state, quote, payment, held) or False
    return False


def enter_as(
    request: HttpRequest, state: GateState, quote: Quote, holder: Holder
) -> HttpResponseBase | bool:
    """Let a wallet in that has signed in, by whatever it holds. Returns and raises as ``enter``."""
    state.payer = holder.payer
    purchases = list(purchases_of(holder, quote.merchant_id))
    for payment in purchases:
        held = _opening_pass(request, quote, payment)
        if held is not None and is_good(held):
            entered = _let_in(request, state, quote, payment, held)
            if entered:
                state.gives = payment
                return entered
    if not quote.takes_credits:
        return False
    topped_up = [one for one in purchases if not _is_pass(one)]
    for payment in topped_up:
        if not payment.credit_entries.exists():
            book(payment)
    for account in accounts_of(holder, quote.merchant_id):
        entered = _spend(request, state, quote, account)
        if entered:
            state.gives = next((p for p in topped_up if p.network == account.network), None)
            return entered
    return False


def give_token(response: HttpResponseBase, payment: Payment) -> None:
    """Put the token on an answer to who has just bought, or has signed in."""
    response[ACCESS_TOKEN_HEADER] = token_of(payment)


def give_cookie(request: HttpRequest, response: HttpResponseBase, payment: Payment) -> None:
    """Give the browser that has just bought a pass the cookie that opens its pages."""
    grant = grant_of(payment)
    if grant is None or not grant.is_pass:
        return
    response.set_cookie(
        f"{_COOKIE}{payment.rule_id or 0}",
        token_of(payment),
        max_age=_COOKIE_AGE if grant.seconds is None else min(grant.seconds, _COOKIE_AGE),
        path=cookie_path(request.path) if grant.for_object else "/",
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )


def say_what_remains(response: HttpResponseBase, use: HoldingUse) -> None:
    """How many uses of a pass are left, or what is left of the credits."""
    if use.account is not None:
        use.account.refresh_from_db(fields=["balance"])
        response[REMAINING_HEADER] = f"{use.account.balance_usd.normalize():f} USD"
    elif use.sold_pass is not None and use.sold_pass.uses is not None:
        use.sold_pass.refresh_from_db(fields=["uses_taken"])
        response[REMAINING_HEADER] = f"{use.sold_pass.uses - use.sold_pass.uses_taken} uses"


def _cookies(request: HttpRequest) -> list[str]:
    """Passes' cookies; of requests that a browser repeats by itself, so without a body."""
    if request.method not in ("GET", "HEAD"):
        return []
    if request.META.get("CONTENT_LENGTH") not in (None, "", "0"):
        return []
    return [value for name, value in request.COOKIES.items() if name.startswith(_COOKIE)]


def _payment_of(token: str) -> Payment | None:
    if not token.startswith(_MARK):
        return None
    try:
        public_id = Signer(salt=_SALT, sep=".").unsign(token.removeprefix(_MARK))
    except BadSignature:
        return None
    return (
        Payment.objects.sales()
        .defer("response_body")
        .filter(public_id=public_id, grant__isnull=False)
        .first()
    )


def _enter_by(
    request: HttpRequest, state: GateState, quote: Quote, payment: Payment
) -> HttpResponseBase | bool:
    if payment.merchant_id != quote.merchant_id:
        raise PaymentRefused(
            "What this token stands for was bought of another seller.",
            code=Code.INVALID_ACCESS_TOKEN,
        )
    if not payment.is_paid:
        raise PaymentRefused(
            "The payment that this token stands for was undone.", code=Code.PASS_ENDED
        )
    if _is_pass(payment):
        return _enter_by_pass(request, state, quote, payment)
    if not quote.takes_credits:
        return False
    book(payment)
    account = account_of(payment)
    entered = _spend(request, state, quote, account)
    if not entered:
        raise PaymentRefused(
            f"This costs {format_usd(quote.price_usd or Decimal(0))}, and "
            f"{format_usd(account.balance_usd)} of your credits are left.",
            code=Code.INSUFFICIENT_CREDITS,
        )
    return entered


def _enter_by_pass(
    request: HttpRequest, state: GateState, quote: Quote, payment: Payment
) -> HttpResponseBase | bool:
    held = _opening_pass(request, quote, payment)
    if held is None:
        raise PaymentRefused(
            "The pass that this token stands for does not open this page.",
            code=Code.INVALID_ACCESS_TOKEN,
        )
    entered = is_good(held) and _let_in(request, state, quote, payment, held)
    if not entered:
        raise PaymentRefused(_why_over(held), code=Code.PASS_ENDED)
    return entered


def _why_over(held: Pass) -> str:
    if held.revoked_at is not None:
        return "The pass was revoked by its seller."
    if held.expires_at is not None and clock.now() >= held.expires_at:
        return "The pass has expired."
    return "The pass has no uses left."


def _is_pass(payment: Payment) -> bool:
    grant = grant_of(payment)
    return grant is not None and grant.is_pass


def _opening_pass(request: HttpRequest, quote: Quote, payment: Payment) -> Pass | None:
    """The pass that ``payment`` has bought, if it opens this page, whether still good or not."""
    grant = grant_of(payment)
    if grant is None or payment.merchant_id != quote.merchant_id:
        return None
    if not grant.opens(key=quote.key, url_name=quote.url_name, method=request.method or "GET"):
        return None
    if grant.for_object and payment.resource_url != resource_url(request):
        return None
    return pass_of(payment)


def _facts(request: HttpRequest) -> RequestFacts:
    key = read_idempotency_key(request.headers.get(IDEMPOTENCY_KEY_HEADER))
    return replace(request_facts(request), identifier=key)


def _let_in(
    request: HttpRequest, state: GateState, quote: Quote, payment: Payment, held: Pass
) -> HttpResponseBase | bool:
    if held.uses is not None:
        taken = uses.take_of_pass(held, quote, _facts(request))
        if taken is None:
            return False
        if taken.is_earlier:
            return _again(request, taken.use)
        state.use = taken.use
    state.access = payment
    request.payment = payment  # type: ignore[attr-defined]
    return True


def _spend(
    request: HttpRequest, state: GateState, quote: Quote, account: CreditAccount
) -> HttpResponseBase | bool:
    taken = uses.take_of_credits(account, quote, _facts(request))
    if taken is None:
        account.refresh_from_db(fields=["balance"])
        return False
    if taken.is_earlier:
        return _again(request, taken.use)
    state.use = taken.use
    request.payment = taken.use  # type: ignore[attr-defined]
    return True


def _again(request: HttpRequest, use: HoldingUse) -> HttpResponseBase:
    """A use that was named before: what it has bought, or to wait."""
    if use.state != HoldingUse.State.CHARGED:
        return responses.in_progress(request, None)
    response = responses.private(replay(use), *VARY)
    say_what_remains(response, use)
    return response
