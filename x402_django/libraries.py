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

#: What the rooms import inside functions, or through modules that are imported so: for every
#: site, and for payments on Solana, which need an optional part of the SDK.
LIBRARIES: Final = {
    "evm": (
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
        "x402.mechanisms.evm.batch_settlement.facilitator.scheme",
        "x402.mechanisms.evm.exact.facilitator",
        "x402.mechanisms.evm.upto.facilitator",
        "x402.extensions.eip2612_gas_sponsoring",
        "x402.extensions.erc20_approval_gas_sponsoring",
    ),
    "solana": (
        "solders.message",
        "solders.transaction",
        "x402.mechanisms.svm.default_assets",
        "x402.mechanisms.svm.utils",
    ),
}

_lock = threading.RLock()
_loaded: set[str] = set()


def load(group: str = "evm") -> None:
    """Load a group of ``LIBRARIES`` unless that is done. Raises ImportError if one is missing."""
    if group in _loaded:
        return
    with _lock:
        for name in LIBRARIES[group]:
            import_module(name)
        _loaded.add(group)


def load_solana() -> None:
    """Load what payments on Solana need. Raises ImportError without ``x402-django[svm]``."""
    load()
    load("solana")
