"""The goods: what the views answer with. Nothing here knows of payments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date

#: What lies in the vault.
SECRET = "The ledger decides."

QUOTATIONS = [
    {"text": "I have made this longer than usual, for lack of time.", "by": "Blaise Pascal"},
    {"text": "The best way out is always through.", "by": "Robert Frost"},
    {"text": "We can only see a short distance ahead.", "by": "Alan Turing"},
    {"text": "Nothing in life is to be feared.", "by": "Marie Curie"},
]

SKIES = ["sunny", "cloudy", "light rain", "windy", "foggy", "clear and cold"]


@dataclass(frozen=True, slots=True)
class Article:
    """A page of prose."""

    title: str
    summary: str
    paragraphs: tuple[str, ...]


ARTICLES = {
    "what-is-x402": Article(
        "What is x402?",
        "A status code that waited thirty years for its protocol.",
        (
            "HTTP has had a status code for payment since 1997: 402, Payment Required, "
            "“reserved for future use”. What was missing was a way to pay that needs no account, "
            "no form and no person.",
            "x402 supplies it. The server answers 402 and says what it wants: so much of this "
            "token, on that network, to this address. The client signs an authorization for "
            "exactly that and sends the same request again, with the signature in a header.",
            "The authorization names the payee and the amount, can be used once, and expires. "
            "Whoever submits it to the chain pays the gas, so the buyer needs no ether: only "
            "dollars, and a key.",
        ),
    ),
    "why-a-ledger": Article(
        "Why a shop needs a ledger",
        "One payment, one good, on any number of machines.",
        (
            "A signature can be copied. Two workers that both look whether it was seen, and only "
            "then write that it was, will sooner or later both say no, and sell twice.",
            "So a payment is claimed in the database before any work is done for it, and a "
            "unique constraint decides who wins. Everything else follows from that row.",
        ),
    ),
}


def weather_on(day: date, place: str = "here") -> dict[str, object]:
    """Weather that looks real and is the same whenever it is asked for."""
    seed = hashlib.sha256(f"{place.casefold()}|{day.isoformat()}".encode()).digest()
    return {"sky": SKIES[seed[0] % len(SKIES)], "celsius": seed[1] % 35 - 5}
