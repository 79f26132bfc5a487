"""``sign-in-with-x``: a wallet that has paid comes back, by its signature instead of a payment.

For what session access is sold with (http/access.py): for as long as the browser that paid may
come back by its cookie, the wallet that paid may by signing in. A request with a body, or another
method than GET, is paid for each time.

And for what passes open or credits are spent on (http/holding.py), by any method: who has signed
in is the holder of what its wallet has bought.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import SIGN_IN_HEADER, SIGN_IN_WITH_X, Code
from x402_django.exceptions import PaymentRefused
from x402_django.extensions.base import Asked, Extension
from x402_django.models import Payment, SpentNonce
from x402_django.payments.entitlements import has_session_access
from x402_django.payments.holdings import Holder, has_purchases
from x402_django.protocol.assets import to_checksum_address
from x402_django.protocol.networks import is_evm
from x402_django.protocol.sign_in import SignIn, SignInChallenge, read_sign_in
from x402_django.protocol.signatures import recover_signer

if TYPE_CHECKING:
    from datetime import datetime

_STATEMENT: Final = "Sign in to come back to what you have paid for. This costs nothing."
#: Seconds in which a challenge must be answered; the SDKs take it for too old after as many.
_LIFETIME: Final = 300
#: Purchases of one request by one wallet that are looked at: a later one may open for less long.
_RECENT: Final = 20


class SignInWithX(Extension):
    """``STATEMENT`` is what the wallet shows; ``LIFETIME`` is of a challenge, in seconds."""

    key = SIGN_IN_WITH_X
    option_names = frozenset({"STATEMENT", "LIFETIME"})
    access_headers = (SIGN_IN_HEADER,)

    def declare(self, asked: Asked) -> Mapping[str, Any] | None:
        if not _is_opened(asked):
            return None
        challenge = SignInChallenge.issue(
            asked.resource_url,
            statement=asked.options.get("STATEMENT", _STATEMENT),
            now=clock.timestamp(),
            lifetime=asked.options.get("LIFETIME", _LIFETIME),
        )
        return challenge.declaration(_networks(asked))

    def admit(self, asked: Asked) -> Payment | Holder | None:
        if not _is_opened(asked):
            return None
        header = asked.request.headers[SIGN_IN_HEADER]
        return _opened_by(_read_once(header, asked.resource_url, _networks(asked)), asked)

    def check(self) -> list[CheckMessage]:
        problems = []
        lifetime = self.options.get("LIFETIME", _LIFETIME)
        if type(lifetime) is not int or not 1 <= lifetime <= 3600:
            problems.append(self._wrong("LIFETIME", "Write a whole number from 1 to 3600."))
        statement = self.options.get("STATEMENT", _STATEMENT)
        if not (isinstance(statement, str) and statement.isascii() and statement.isprintable()):
            hint = "Write one line of ASCII (EIP-4361)."
            problems.append(self._wrong("STATEMENT", hint))
        return problems

    def _wrong(self, option: str, hint: str) -> CheckMessage:
        where = f"X402['EXTENSIONS'][{self.key!r}]['OPTIONS'][{option!r}]"
        return Error(f"{where} is {self.options[option]!r}.", hint=hint, id="x402_django.E064")


def _is_opened(asked: Asked) -> bool:
    """Whether what is sold may be come back to, by this request."""
    return asked.quote.is_held or _has_session_access(asked)


def _has_session_access(asked: Asked) -> bool:
    return asked.request.method == "GET" and asked.quote.session_access > 0


def _networks(asked: Asked) -> tuple[str, ...]:
    """The networks that the wallet could have paid on, preferred first."""
    return tuple(dict.fromkeys(o.network for o in asked.quote.offers if is_evm(o.network)))


def prove_wallet(
    header: str,
    resource_url: str,
    networks: tuple[str, ...],
    *,
    is_known: Callable[[str, str], bool],
) -> Holder:
    """The wallet that has signed in for ``resource_url``, by a challenge of this site.

    ``is_known`` is asked for a contract's address and network before the contract is: what
    strangers make up must not cost a call to a node.

    Raises:
        MalformedPayment: it cannot be read.
        PaymentRefused: it answers no challenge of ours, was used, or is not its wallet's.
        ServiceUnavailable: the contract could not be asked.
    """
    sign_in = _read_once(header, resource_url, networks)
    wallet = to_checksum_address(sign_in.address)
    if _signer(sign_in) == wallet:
        return Holder(wallet)
    if not is_known(wallet, sign_in.network) or not _is_signed_by_contract(sign_in):
        raise PaymentRefused(
            "The sign-in was not signed by its wallet.", code=Code.SIGN_IN_SIGNATURE
        )
    return Holder(wallet, sign_in.network)


def _read_once(header: str, resource_url: str, networks: tuple[str, ...]) -> SignIn:
    """A sign-in that is ours and new. Raises as ``prove_wallet``.

    From here on it is used up, whatever becomes of it: one that opens nothing now, because its
    wallet has yet to pay, must not open anything later for who has seen it.
    """
    sign_in = read_sign_in(header)
    expires = _refuse_foreign(sign_in, resource_url, networks)
    if not SpentNonce.objects.spend(sign_in.challenge.nonce, until=expires):
        raise PaymentRefused("This sign-in was used before.", code=Code.SIGN_IN_NONCE)
    return sign_in


def _refuse_foreign(sign_in: SignIn, resource_url: str, networks: tuple[str, ...]) -> datetime:
    """Raise PaymentRefused for what answers no challenge of this site for this resource.

    Returns when it expires.
    """
    challenge = sign_in.challenge
    if challenge.domain != urlsplit(resource_url).netloc:
        raise PaymentRefused("The sign-in is for another site.", code=Code.SIGN_IN_DOMAIN)
    if challenge.uri != resource_url:
        raise PaymentRefused("The sign-in is for another resource.", code=Code.SIGN_IN_URI)
    if not challenge.is_ours():
        raise PaymentRefused(
            "The sign-in answers no challenge of this site.", code=Code.SIGN_IN_NONCE
        )
    if clock.now() >= challenge.expires:
        raise PaymentRefused("The sign-in has expired.", code=Code.SIGN_IN_EXPIRED)
    if sign_in.network not in networks:
        raise PaymentRefused(
            "The sign-in is for a network that nothing is paid on here.", code=Code.SIGN_IN_CHAIN
        )
    return challenge.expires


def _opened_by(sign_in: SignIn, asked: Asked) -> Payment | Holder | None:
    """The payment by which the wallet may come back, or its proved self; None if neither helps.

    An account's own key answers for it wherever it has paid. A contract answers on its network
    alone: on another one anybody may have put another contract at its address.

    Raises:
        PaymentRefused: it is not the wallet's signature.
        ServiceUnavailable: the contract could not be asked.
    """
    wallet = to_checksum_address(sign_in.address)
    network = None if _signer(sign_in) == wallet else sign_in.network
    payment = _access_of(wallet, network, asked) if _has_session_access(asked) else None
    if network is None:
        return payment or (Holder(wallet) if asked.quote.is_held else None)
    is_known = payment is not None or (
        asked.quote.is_held and has_purchases(wallet, network, asked.quote.merchant_id)
    )
    # Whether somebody else's address has access is nothing to tell.
    if not is_known or not _is_signed_by_contract(sign_in):
        raise PaymentRefused(
            "The sign-in was not signed by its wallet.", code=Code.SIGN_IN_SIGNATURE
        )
    return payment or Holder(wallet, network)


def _access_of(wallet: str, network: str | None, asked: Asked) -> Payment | None:
    payments = Payment.objects.opening(wallet, asked.facts().fingerprint)
    if network is not None:
        payments = payments.filter(network=network)
    recent = payments.defer("response_body")[:_RECENT]
    return next((one for one in recent if has_session_access(one)), None)


def _signer(sign_in: SignIn) -> str | None:
    try:
        return recover_signer(sign_in.digest, sign_in.signature)
    except PaymentRefused:  # not canonical: perhaps a contract's own format of the same length
        return None


def _is_signed_by_contract(sign_in: SignIn) -> bool:
    from x402_django.chain.transfers import signed_by_contract  # loads web3

    if not x402.network(sign_in.network).has_rpc:
        return False
    return signed_by_contract(sign_in.network, sign_in.address, sign_in.digest, sign_in.signature)
