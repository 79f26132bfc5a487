"""``offer-receipt``: signed offers in the challenge, a signed receipt with what was delivered.

Anybody can verify them later, without asking the site: that these were its terms, that it took
the money and delivered. Its public keys are on a page of their own (``http.keys``).

Source: x402 extension "Offer and Receipt", version 0.6.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from x402_django import clock
from x402_django.chain import wallets
from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError
from x402_django.extensions.base import Asked, Extension
from x402_django.extensions.signing import Signer, build_signer

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.models import Payment
    from x402_django.protocol.types import Offer

logger = logging.getLogger("x402_django.extensions")

KEY: Final = "offer-receipt"
#: Of the payloads of offers and receipts.
VERSION: Final = 1
DEFAULT_VALIDITY: Final = 60


class OfferReceipt(Extension):
    """Signs what the site offers and what it has delivered.

    Options:
        KEY_ENV, KEYSTORE, …: the private key, as for a wallet (``chain.wallets``). The format
            ``jws`` also takes Ed25519 and P-256 keys in ``KEY_ENV``.
        FORMAT: ``"eip712"`` (default) or ``"jws"``.
        KID: DID URL that names the key; by default the site's own ``did:web``.
        VALIDITY: seconds for which an offer binds the site; 60 by default.
        INCLUDE_TRANSACTION: whether receipts name the transaction; not by default.
        RETIRED_KEYS: public keys (JWK, each with its ``kid``) that signed before.
    """

    key = KEY
    option_names = (
        frozenset({"FORMAT", "KID", "VALIDITY", "INCLUDE_TRANSACTION", "RETIRED_KEYS"})
        | wallets.OPTION_NAMES
    )

    @cached_property
    def signer(self) -> Signer:
        """Read once per process: a keystore takes a second. Raises ConfigurationError."""
        return build_signer(self.options)

    @property
    def retired_keys(self) -> Sequence[Mapping[str, Any]]:
        """Public keys that signed earlier artifacts."""
        return tuple(self.options.get("RETIRED_KEYS") or ())

    def declare(self, asked: Asked) -> str | None:
        """The quote's offers, signed. Kept for a quarter of their validity."""
        validity = int(asked.options.get("VALIDITY", DEFAULT_VALIDITY))
        now = clock.timestamp()
        signed_at = now - now % max(1, validity // 4)
        return _signed_offers(
            self.signer, asked.resource_url, asked.quote.offers, signed_at + validity
        )

    def acknowledge(self, payment: Payment, request: HttpRequest) -> dict[str, Any] | None:
        """The receipt, once the money has moved and what it bought has been delivered."""
        if not payment.is_paid or payment.delivered_at is None:
            return None
        with_transaction = bool(self.options.get("INCLUDE_TRANSACTION"))
        payload = {
            "version": VERSION,
            "network": payment.network,
            "resourceUrl": payment.resource_url,
            "payer": payment.payer,
            # The same each time it is asked for, and so is the signature.
            "issuedAt": int(payment.delivered_at.timestamp()),
            "transaction": payment.transaction if with_transaction else None,
        }
        try:
            receipt = self.signer.sign("Receipt", payload)
        except ConfigurationError as error:  # what was paid for is delivered all the same
            logger.error("The receipt of payment %s is not signed: %s", payment.public_id, error)
            return None
        return {"info": {"receipt": receipt}, "schema": _schema("receipt", self.signer.format)}

    def check(self) -> list[CheckMessage]:
        """E066: a key or an option that cannot be used; W067: offers that outlive their price."""
        problem = self._problem()
        if problem:
            return [Error(problem, hint="See docs/extensions.md.", id="x402_django.E066")]
        validity = self.options.get("VALIDITY", DEFAULT_VALIDITY)
        if validity <= x402.price_grace + x402.rules_max_age:
            return []
        return [
            Warning(
                f"Signed offers are good for {validity} seconds, a price that was edited for "
                f"{x402.price_grace:g}.",
                hint="Raise X402['PRICE_GRACE'] or lower VALIDITY: what is signed should be kept.",
                id="x402_django.W067",
            )
        ]

    def _problem(self) -> str:
        validity = self.options.get("VALIDITY", DEFAULT_VALIDITY)
        if not isinstance(validity, int) or isinstance(validity, bool) or validity < 1:
            return "VALIDITY of the extension offer-receipt must be a whole number of seconds."
        if not all(isinstance(one, Mapping) and one.get("kid") for one in self.retired_keys):
            return "RETIRED_KEYS of the extension offer-receipt must be JWKs, each with its 'kid'."
        if self.options.get("KEY") and not settings.DEBUG:
            return "The key of the extension offer-receipt stands in the settings; use KEY_ENV."
        try:
            if self.options.get("KEYSTORE"):
                wallets.check_source(self.options)
            else:
                build_signer(self.options)
        except ConfigurationError as error:
            return f"The extension offer-receipt cannot sign: {error}"
        return ""


@lru_cache(maxsize=512)
def _signed_offers(
    signer: Signer, resource_url: str, offers: tuple[Offer, ...], valid_until: int
) -> str:
    from x402_django.extensions.registry import encode

    signed = [
        {
            "acceptIndex": index,
            **signer.sign(
                "Offer",
                {
                    "version": VERSION,
                    "resourceUrl": resource_url,
                    "scheme": offer.scheme,
                    "network": offer.network,
                    "asset": offer.asset,
                    "payTo": offer.pay_to,
                    "amount": str(offer.amount),
                    "validUntil": valid_until,
                },
            ),
        }
        for index, offer in enumerate(offers)
    ]
    return encode({"info": {"offers": signed}, "schema": _schema("offers", signer.format)})


def _schema(field: str, signature_format: str) -> dict[str, Any]:
    """JSON Schema of ``info``. Short: it travels in a header, and comes back in another."""
    names = (
        ["format", "signature"]
        if signature_format == "jws"
        else (["format", "payload", "signature"])
    )
    artifact: dict[str, Any] = {
        "type": "object",
        "properties": {
            name: {"type": "object" if name == "payload" else "string"} for name in names
        },
        "required": names,
    }
    value = {"type": "array", "items": artifact} if field == "offers" else artifact
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {field: value},
        "required": [field],
    }
