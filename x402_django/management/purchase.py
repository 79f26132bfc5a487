"""One purchase over HTTP: a challenge, one signed payment, and its answer.

Exactly one payment is signed. Whatever happens to the answer, the same payment is sent again: a
seller that keeps a ledger then hands out what was paid for, and at the worst the authorization
runs out unused. The record is written before the payment is first sent, so that a program that
was killed goes on with the same payment as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import ConfigurationError, X402Error
from x402_django.protocol.buying import SellersOffer, SignedHeader, read_settlement

if TYPE_CHECKING:
    import httpx

#: Answers that are no word on the payment: the same one may be sent again.
RETRIED: Final = frozenset({409, 425, 429, 502, 503, 504})
#: Seconds between two tries: at the least, and at the most whatever ``Retry-After`` says.
_SHORTEST: Final = 1.0
_LONGEST: Final = 30.0


class OutcomeUnknown(X402Error):
    """No answer tells whether the payer was charged. The same payment may be sent again."""

    code = Code.SETTLEMENT_UNKNOWN
    message = "It is not known whether you paid. Do not pay again: run this with the record again."
    retryable = True


@dataclass(frozen=True, slots=True)
class WantedRequest:
    """What is to be bought."""

    method: str
    url: str
    body: bytes
    headers: tuple[tuple[str, str], ...]

    def facts(self) -> dict[str, str]:
        """What tells requests apart, without their content."""
        digest = hashlib.sha256(self.body).hexdigest()
        return {"method": self.method, "url": self.url, "body_sha256": digest}

    def send(self, client: httpx.Client, extra: Mapping[str, str] | None = None) -> httpx.Response:
        """Send it. Raises httpx.HTTPError."""
        headers = [*self.headers, *(extra or {}).items()]
        return client.request(self.method, self.url, content=self.body or None, headers=headers)


class Record:
    """A purchase as a JSON file; in memory alone where ``path`` is None.

    While the outcome is open it holds the signed payment, so only its owner may read it.
    """

    def __init__(
        self, path: Path | None, content: dict[str, Any], *, resumed: bool = False
    ) -> None:
        self.path = path
        self.content = content
        #: Whether an earlier run may have sent the payment.
        self.resumed = resumed

    @classmethod
    def begin(
        cls, path: Path | None, wanted: WantedRequest, offer: SellersOffer, signed: SignedHeader
    ) -> Record:
        """The record of a payment that is about to be sent."""
        token = offer.token
        content = {
            "state": "sent",
            "request": wanted.facts(),
            "payment": {
                "scheme": offer.scheme,
                "network": offer.network,
                "asset": offer.asset,
                "symbol": None if token is None else token.symbol,
                "decimals": None if token is None else token.decimals,
                "amount": str(offer.amount),
                "payTo": offer.pay_to,
                "payer": signed.payer,
                "nonce": signed.nonce,
                "validBefore": signed.valid_before,
                "identifier": signed.identifier,
            },
            "header": {signed.name: signed.value},
            "begun": _now(),
        }
        record = cls(path, content)
        record.save()
        return record

    @classmethod
    def resume(cls, path: Path, wanted: WantedRequest) -> Record:
        """An open record of this very request. Raises ConfigurationError for any other file."""
        try:
            content = json.loads(path.read_text())
            is_open = content["state"] in ("sent", "unknown")
            request, header = content["request"], content.get("header")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{path} is not a record of a purchase.") from error
        if not is_open or not header:
            raise ConfigurationError(f"{path} records a purchase that is over. Name another file.")
        if request != wanted.facts():
            raise ConfigurationError(f"{path} records a purchase of something else.")
        return cls(path, content, resumed=True)

    @property
    def header(self) -> dict[str, str]:
        """The signed payment."""
        return dict(self.content["header"])

    def close(self, state: str, **more: Any) -> None:
        """Write how it ended. The signed payment is kept only while that is not known, and then
        on disk in any case.
        """
        self.content |= {"state": state, **more, "ended": _now()}
        if state != "unknown":
            self.content.pop("header", None)
        elif self.path is None:
            self.path = Path(f"x402-{self.content['payment']['nonce'][2:14]}.json")
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None:
            return
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self.content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)


@dataclass(frozen=True, slots=True)
class Bought:
    """The seller's last word: its answer, and what it says became of the payment.

    ``is_first``: the payment was never sent before, so no answer to it can have been lost.
    """

    response: httpx.Response
    settlement: dict[str, Any] | None
    is_first: bool = True

    @property
    def is_paid(self) -> bool:
        """Whether the seller says that the money has moved."""
        return self.settlement is not None and self.settlement.get("success") is True


def pay(
    client: httpx.Client,
    wanted: WantedRequest,
    record: Record,
    *,
    tries: int,
    tell: Callable[[str], None] = lambda sentence: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Bought:
    """Send the payment of ``record`` until the seller has answered it.

    ``tell`` hears why it is sent again. Raises OutcomeUnknown after ``tries`` without an answer;
    the record is then still open.
    """
    import httpx

    for number in range(1, tries + 1):
        pause = _SHORTEST
        try:
            response = wanted.send(client, record.header)
        except httpx.HTTPError as error:
            why = f"no answer ({type(error).__name__})"
        else:
            is_first = number == 1 and not record.resumed
            bought = Bought(response, read_settlement(response.headers), is_first)
            if not _is_open(bought):
                return bought
            why = f"answer {response.status_code}"
            pause = _pause(response)
        if number < tries:
            tell(f"{why}: sending the same payment again in {pause:g} s")
            sleep(pause)
    record.close("unknown")
    raise OutcomeUnknown()


def _is_open(bought: Bought) -> bool:
    if bought.response.status_code in RETRIED:
        return True
    settlement = bought.settlement or {}
    pending = settlement.get("errorReason") == Code.SETTLEMENT_PENDING
    return bought.response.status_code == 402 and pending


def _pause(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    seconds = float(text) if text.isascii() and text.isdigit() else _SHORTEST
    return min(max(seconds, _SHORTEST), _LONGEST)


def _now() -> str:
    return datetime.fromtimestamp(clock.timestamp(), UTC).isoformat()
