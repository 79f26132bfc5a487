"""A language model of the smallest kind: which word follows which in the shop's articles."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from demo_project.content import ARTICLES

#: Words that an answer has at most, whatever it may cost.
LONGEST = 60


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer and its size; tokens are words, as this model sees them."""

    text: str
    prompt_tokens: int
    answer_tokens: int

    @property
    def tokens(self) -> int:
        """What is paid for."""
        return self.prompt_tokens + self.answer_tokens


def complete(prompt: str, *, most_tokens: int) -> Completion:
    """Continue ``prompt``, always in the same way, with ``most_tokens`` in all or fewer."""
    asked = prompt.split()[:most_tokens]
    followers = _followers()
    words: list[str] = []
    word = next((one for one in reversed(asked) if one in followers), "The")
    while len(words) < min(LONGEST, most_tokens - len(asked)):
        choices = followers.get(word)
        if not choices:
            break
        digest = hashlib.sha256(f"{prompt} {len(words)}".encode()).digest()
        word = choices[digest[0] % len(choices)]
        words.append(word)
    return Completion(" ".join(words), len(asked), len(words))


@cache
def _followers() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for article in ARTICLES.values():
        words = " ".join(article.paragraphs).split()
        for word, following in pairwise(words):
            found[word].append(following)
    return dict(found)
