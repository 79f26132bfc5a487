"""The heavy libraries: loaded when first needed, then all at once and by one thread.

Modules of the x402 SDK import one another in circles. Two threads that enter such a circle at two
places wait for each other, and Python ends that by handing one of them a module that is half made:
an ImportError. The first requests of a fresh process do arrive together, so whoever is first loads
all that the others will want, while they wait.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Final

#: What the rooms import inside functions, or through modules that are imported so.
LIBRARIES: Final = (
    "requests",
    "httpx",
    "rlp",
    "eth_account",
    "eth_account.messages",
    "web3",
    "web3.middleware",
    "x402",
    "x402.http",
    "x402.schemas.v1",
    "x402.mechanisms.evm.default_assets",
    "x402.mechanisms.evm.exact.facilitator",
    "x402.mechanisms.evm.upto.facilitator",
    "x402.extensions.eip2612_gas_sponsoring",
    "x402.extensions.erc20_approval_gas_sponsoring",
)
#: What payments on Solana need beside those; an optional part of the SDK.
SOLANA_LIBRARIES: Final = (
    "solders.message",
    "solders.transaction",
    "x402.mechanisms.svm.default_assets",
    "x402.mechanisms.svm.utils",
)

_lock = threading.RLock()
_loaded: set[tuple[str, ...]] = set()


def load(names: tuple[str, ...] = LIBRARIES) -> None:
    """Load ``names`` unless that is done already. Raises ImportError if one is not installed."""
    if names in _loaded:
        return
    with _lock:
        for name in names:
            import_module(name)
        _loaded.add(names)


def load_solana() -> None:
    """As ``load``, and what payments on Solana need. Raises ImportError without the extra."""
    load()
    load(SOLANA_LIBRARIES)
