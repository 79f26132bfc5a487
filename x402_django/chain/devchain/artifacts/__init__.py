"""The compiled contracts, and how to read them.

The JSON files are written by ``contracts/build.js`` from ``contracts/src``; they are kept in the
repository so that nobody needs a Solidity compiler to run the chain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    """Creation code, 0x-hex; constructor arguments are appended to it."""
    deployed_bytecode: str
    """Runtime code, 0x-hex, with immutables still zero."""
    compiler: str
    sources: dict[str, str]
    """Every source file that went into it, with its SHA-256 (hex)."""


@cache
def load_artifact(name: str) -> Artifact:
    """The contract called ``name``, e.g. ``"TestDollar"``.

    Raises ``FileNotFoundError`` when there is no such contract.
    """
    text = resources.files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return Artifact(
        name=data["contractName"],
        abi=data["abi"],
        bytecode=data["bytecode"],
        deployed_bytecode=data["deployedBytecode"],
        compiler=data["compiler"],
        sources=data["sources"],
    )
