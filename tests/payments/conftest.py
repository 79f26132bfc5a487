"""A scripted facilitator and a chain that says what a test wants it to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from x402_django import clock
from x402_django.chain import evidence
from x402_django.chain.evidence import AuthorizationState, Evidence


@dataclass
class ChainSays:
    """Answers of ``chain.evidence``; an exception as an answer is raised."""

    settlement: Any = None
    used: Any = False
    #: The same some blocks below the newest; by default as at the newest.
    used_deep: Any = None
    time: Any = None
    asked: list[str] = field(default_factory=list)

    def paid(self, *, confirmations: int = 1, log_index: int = 7, tx: str = "ab") -> Evidence:
        """From now on the chain has the transfer."""
        self.settlement = Evidence("0x" + tx * 32, 100, "0x" + "cd" * 32, log_index, confirmations)
        self.used = True
        return self.settlement

    def fails(self, error: Exception) -> None:
        self.settlement = self.used = self.time = error

    def find_settlement(self, signed: Any, **where: Any) -> Evidence | None:
        return self._answer("find_settlement", self.settlement)

    def authorization_used(self, signed: Any) -> bool:
        return self._answer("authorization_used", self.used)

    def authorization_state(self, signed: Any, *, depth: int = 0) -> AuthorizationState:
        deep = depth and self.used_deep is not None
        used = self._answer("authorization_state", self.used_deep if deep else self.used)
        return AuthorizationState(used, 100, self.chain_time("", None))

    def chain_time(self, network: str, block_number: int | None = None) -> int:
        return self._answer("chain_time", clock.timestamp() if self.time is None else self.time)

    def has_code(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def _answer(self, name: str, answer: Any) -> Any:
        self.asked.append(name)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def chain_says(monkeypatch: pytest.MonkeyPatch) -> ChainSays:
    says = ChainSays()
    for name in ("find_settlement", "authorization_used", "authorization_state", "chain_time"):
        monkeypatch.setattr(evidence, name, getattr(says, name))
    if hasattr(evidence, "has_code"):
        monkeypatch.setattr(evidence, "has_code", says.has_code)
    return says


@pytest.fixture
def untrusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The facilitator's word is only a hint."""
    from x402_django.testing.instant import InstantFacilitator

    monkeypatch.setattr(InstantFacilitator, "trusted", False)


@pytest.fixture
def without_rpc(settings: Any) -> None:
    """A site that cannot read the network."""
    from tests.settings import X402

    settings.X402 = {**X402, "NETWORKS": {"eip155:84532": {}}}
