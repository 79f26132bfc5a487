"""The embedded development chain: a real EVM in this process, with a worthless test dollar.

It executes real transactions with real signatures, so that nothing in a test or a demonstration
has to be mocked; it has no peers, no consensus and no persistence, and everybody may mint. Never
put value on it.

``DevChain``          the chain; in process through ``DevChain().provider()``, a web3 provider
``DevServer``         the same chain on JSON-RPC over HTTP, for other processes
``DevChainProvider``  that web3 provider
``deployment``        where the contracts are
``accounts``          the prefunded accounts and their (public) keys
``artifacts``         the contracts' interfaces and code

The three classes need py-evm (``pip install "x402-django[devchain]"``), which is loaded when one of
them is first used; the addresses and artifacts need nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chain import DevChain
    from .provider import DevChainProvider
    from .server import DevServer

__all__ = ["DevChain", "DevChainProvider", "DevServer"]

_HOMES = {"DevChain": ".chain", "DevChainProvider": ".provider", "DevServer": ".server"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
