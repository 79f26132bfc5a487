"""Fixtures of the rooms that need the embedded chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chain import support
from tests.chain.nodes import Node
from x402_django.chain.devchain import DevChain
from x402_django.testing.chain import dev_chain, reset_dev_chains
from x402_django.testing.facilitators import Mood


@pytest.fixture
def chain(settings: object) -> Iterator[DevChain]:
    """A fresh chain of this process, configured as the site's network."""
    reset_dev_chains()
    support.down.clear()
    support.lost.clear()
    settings.X402 = support.x402_settings()  # type: ignore[attr-defined]
    support.requests.clear()
    yield dev_chain(support.NETWORK)
    reset_dev_chains()


@pytest.fixture
def nodes(settings: Any) -> Iterator[Any]:
    """Makes nodes and configures them as the endpoints of the network, in their order."""
    made: list[Node] = []

    def make(*answers: dict[str, Any], **network: Any) -> list[Node]:
        made.extend(Node(**each) for each in answers)
        urls = [node.url for node in made]
        network = {"RPC_TIMEOUT": 0.5, "RPC_CHECK_INTERVAL": 0, **network}
        settings.X402 = {"NETWORKS": {support.NETWORK: {"RPC_URLS": urls, **network}}}
        return made

    yield make
    for node in made:
        node.close()


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> float:
    """Seconds to wait for a facilitator: few where no answer will come, many where one will.

    A busy machine must not turn an answer into a time-out.
    """
    parameters = getattr(request.node, "callspec", None)
    mood = parameters.params.get("mood") if parameters else None
    return 0.5 if mood in (Mood.HANGS, Mood.ACCEPTS_THEN_TIMES_OUT) else 20
