"""Those who shop: patient, forgetful of answers, and strict about what they were told."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from chaos.goods import KINDS, Kind
from x402_django.constants import PAYMENT_REQUIRED_HEADER, PAYMENT_SIGNATURE_HEADER
from x402_django.testing.payer import Payer, decode, encode

#: What a buyer has: more than it can spend.
PURSE: Final = 10**9
#: What a poor one has, and gets now and then: less than it wants to spend.
ALLOWANCE: Final = 40_000
#: Things that a buyer tries to get at the same time.
MOST_OPEN: Final = 25
#: Seconds until it asks again for the same thing.
RETRY_AFTER: Final = 1.0
#: Copies of one payment that are sent at the same time, at most.
_COPIES: Final = 4


@dataclass(slots=True)
class Purchase:
    """One thing that one buyer wants once, and all that came of it."""

    buyer: str
    kind: Kind
    size: int
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    nonces: list[str] = field(default_factory=list)
    copies: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    asked_at: float = float("-inf")

    @property
    def path(self) -> str:
        """Where it is to be had."""
        return f"/{self.kind.name}/{self.size}/{self.name}/"

    @property
    def price(self) -> int:
        """In atomic units."""
        return self.kind.units(self.size)

    def __str__(self) -> str:
        return f"{self.kind.method} {self.path} of {self.buyer}"


class Buyer(threading.Thread):
    """Buys one thing after another until told to stop, and finishes what it has begun.

    It believes what it is told: 402 means "you have not paid", so it signs anew; anything else
    but the goods means "ask again", so it sends the very same payment later. Now and then it hangs
    up before the answer, sends copies of a payment to both shops at once, or asks again for what
    it has. A ``poor`` one wants things that it cannot pay for all at once.
    """

    def __init__(
        self,
        sites: Sequence[str],
        seed: str,
        *,
        until: threading.Event,
        hasty: bool,
        most: int = 0,
        poor: bool = False,
    ) -> None:
        super().__init__(daemon=True, name=f"buyer {seed}")
        self.payer = Payer()
        self.poor = poor
        self.purchases: list[Purchase] = []
        self.told: Counter[str] = Counter()
        self.error: Exception | None = None
        self.given_up = threading.Event()
        self._sites = sites
        self._chooser = random.Random(seed)
        self._until = until
        self._hasty = hasty
        self._most = most
        self._http = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=20)

    def run(self) -> None:
        """Shop. What is not to be had yet is asked for again while other things are bought."""
        try:
            while not self.given_up.is_set():
                open_ = [one for one in self.purchases if not one.copies]
                if len(open_) < MOST_OPEN and not self._is_over():
                    open_.append(self._new_purchase())
                if not open_:
                    return
                purchase = min(open_, key=lambda one: one.asked_at)
                if purchase.asked_at > time.monotonic() - RETRY_AFTER:
                    time.sleep(0.05)
                    continue
                purchase.asked_at = time.monotonic()
                self._go_on_with(purchase)
        except Exception as error:
            self.error = error
        finally:
            self._http.close()

    def _is_over(self) -> bool:
        return self._until.is_set() or 0 < self._most <= len(self.purchases)

    def _new_purchase(self) -> Purchase:
        kind = self._chooser.choice(list(KINDS.values()))
        # Who has little wants little, and much of it.
        size = min(kind.sizes) if self.poor else self._chooser.choice(kind.sizes)
        self.purchases.append(Purchase(self.payer.address, kind, size))
        return self.purchases[-1]

    def _go_on_with(self, purchase: Purchase) -> None:
        """Ask once; if it costs something, pay at once and ask again."""
        if purchase.headers and self._hasty and self._chooser.random() < 0.1:
            self._send_copies(purchase)
        answer = self._ask(purchase)
        if answer is not None and answer.status_code == 402:
            purchase.headers = self._sign(purchase, answer)
            if self._hasty and self._chooser.random() < 0.1:
                self._send_copies(purchase)
            answer = self._ask(purchase)
        if answer is not None and answer.status_code == 200:
            purchase.copies.append(answer.content)
            if self._chooser.random() < 0.2:
                self._ask_again(purchase)

    def _ask(self, purchase: Purchase) -> httpx.Response | None:
        """None if there was no answer, or it was not waited for."""
        site, headers = self._chooser.choice(self._sites), purchase.headers
        timeout = 20.0
        if headers and self._hasty and self._chooser.random() < 0.15:
            timeout = self._chooser.uniform(0.01, 0.5)  # hangs up
        try:
            answer = self._http.request(
                purchase.kind.method, site + purchase.path, headers=headers, timeout=timeout
            )
        except httpx.HTTPError as error:
            self.told[type(error).__name__] += 1
            return None
        self.told[f"{answer.status_code}{' paid' if headers else ''}"] += 1
        return answer

    def _sign(self, purchase: Purchase, challenge: httpx.Response) -> dict[str, str]:
        offer = decode(challenge.headers[PAYMENT_REQUIRED_HEADER])["accepts"][0]
        if int(offer["amount"]) != purchase.price:
            raise ValueError(f"{purchase} costs {purchase.price}, not {offer['amount']}.")
        payload = self.payer.payload(offer)
        purchase.nonces.append(payload["payload"]["authorization"]["nonce"])
        return {PAYMENT_SIGNATURE_HEADER: encode(payload)}

    def _send_copies(self, purchase: Purchase) -> None:
        """The same payment several times at the same time; the answers count."""

        def send(site: str) -> None:
            try:
                answer = httpx.request(
                    purchase.kind.method,
                    site + purchase.path,
                    headers=purchase.headers,
                    timeout=20,
                )
            except httpx.HTTPError:
                return
            if answer.status_code == 200:
                purchase.copies.append(answer.content)

        first = self._chooser.randrange(2)
        sites = [self._sites[(first + copy) % len(self._sites)] for copy in range(_COPIES)]
        copies = self._chooser.randint(2, _COPIES)
        threads = [threading.Thread(target=send, args=(site,)) for site in sites[:copies]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask_again(self, purchase: Purchase) -> None:
        """What was bought may be had again, the very same."""
        answer = self._ask(purchase)
        if answer is not None and answer.status_code == 200:
            purchase.copies.append(answer.content)
