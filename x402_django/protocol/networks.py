"""Names of networks: CAIP-2, x402 v1's, and those for people; block explorers.

A site's ``X402["NETWORKS"][…]`` wins over the tables here (``NAME``, ``V1_NAME``,
``EXPLORER_URL``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from x402_django import conf

_CAIP2: Final = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")
_EIP155: Final = re.compile(r"eip155:([1-9][0-9]{0,31})")
_SOLANA: Final = re.compile(r"solana:[1-9A-HJ-NP-Za-km-z]{32}")

#: The v1 networks that *every* official v1 client knows, and knows by the same chain id.
#: A wider list would do harm: the TypeScript v1 clients reject a whole challenge that names one
#: network they do not know, and the SDKs disagree about the chain ids of "story", "educhain"
#: and "skale-base-sepolia", so that what a client signs for those is worthless on the other.
#: A site that wants one of them says so with ``V1_NAME``.
_V1_CHAIN_IDS: Final[dict[str, int]] = {
    "abstract": 2741,
    "abstract-testnet": 11124,
    "avalanche": 43114,
    "avalanche-fuji": 43113,
    "base": 8453,
    "base-sepolia": 84532,
    "iotex": 4689,
    "peaq": 3338,
    "polygon": 137,
    "polygon-amoy": 80002,
    "sei": 1329,
    "sei-testnet": 1328,
}
_V1_SOLANA: Final = {
    "solana": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "solana-devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
}
_NETWORK_OF_V1: Final = {
    **{name: f"eip155:{chain}" for name, chain in _V1_CHAIN_IDS.items()},
    **_V1_SOLANA,
}
_V1_OF_NETWORK: Final = {network: name for name, network in _NETWORK_OF_V1.items()}


@dataclass(frozen=True, slots=True)
class KnownNetwork:
    """A network people know by name. ``explorer_url`` has no trailing slash; may be empty."""

    network: str
    name: str
    explorer_url: str
    testnet: bool = False
    #: What the explorer's links end with.
    explorer_query: str = ""


_KNOWN: Final = {
    known.network: known
    for known in (
        KnownNetwork("eip155:1", "Ethereum", "https://etherscan.io"),
        KnownNetwork("eip155:14", "Flare", "https://flarescan.com"),
        KnownNetwork("eip155:50", "XDC", "https://xdcscan.com"),
        KnownNetwork("eip155:51", "XDC Apothem", "https://testnet.xdcscan.com", testnet=True),
        KnownNetwork("eip155:137", "Polygon", "https://polygonscan.com"),
        KnownNetwork("eip155:143", "Monad", "https://monadscan.com"),
        KnownNetwork("eip155:988", "Stable", "https://stablescan.xyz"),
        KnownNetwork("eip155:1328", "Sei Testnet", "https://testnet.seiscan.io", testnet=True),
        KnownNetwork("eip155:1329", "Sei", "https://seiscan.io"),
        KnownNetwork("eip155:2201", "Stable Testnet", "https://testnet.stablescan.xyz", True),
        KnownNetwork("eip155:2741", "Abstract", "https://abscan.org"),
        KnownNetwork("eip155:3338", "peaq", "https://peaq.subscan.io"),
        KnownNetwork("eip155:4689", "IoTeX", "https://iotexscan.io"),
        KnownNetwork("eip155:8453", "Base", "https://basescan.org"),
        KnownNetwork("eip155:10143", "Monad Testnet", "https://testnet.monadscan.com", True),
        KnownNetwork("eip155:11124", "Abstract Testnet", "https://sepolia.abscan.org", True),
        KnownNetwork("eip155:31337", "Local development chain", "", testnet=True),
        KnownNetwork("eip155:42161", "Arbitrum One", "https://arbiscan.io"),
        KnownNetwork("eip155:42220", "Celo", "https://celoscan.io"),
        KnownNetwork("eip155:43113", "Avalanche Fuji", "https://testnet.snowtrace.io", True),
        KnownNetwork("eip155:43114", "Avalanche", "https://snowtrace.io"),
        KnownNetwork("eip155:80002", "Polygon Amoy", "https://amoy.polygonscan.com", True),
        KnownNetwork("eip155:84532", "Base Sepolia", "https://sepolia.basescan.org", True),
        KnownNetwork("eip155:421614", "Arbitrum Sepolia", "https://sepolia.arbiscan.io", True),
        KnownNetwork("eip155:11142220", "Celo Sepolia", "https://sepolia.celoscan.io", True),
        KnownNetwork(_V1_SOLANA["solana"], "Solana", "https://explorer.solana.com"),
        KnownNetwork(
            _V1_SOLANA["solana-devnet"],
            "Solana Devnet",
            "https://explorer.solana.com",
            testnet=True,
            explorer_query="?cluster=devnet",
        ),
        KnownNetwork("eip155:11155111", "Ethereum Sepolia", "https://sepolia.etherscan.io", True),
    )
}


#: What gas is paid in, by chain id.
_COINS: Final = {
    **dict.fromkeys((1, 2741, 8453, 11124, 42161, 84532, 421614, 11155111), "ETH"),
    **dict.fromkeys((137, 80002), "POL"),
    **dict.fromkeys((43113, 43114), "AVAX"),
    **dict.fromkeys((1328, 1329), "SEI"),
    **dict.fromkeys((42220, 11142220), "CELO"),
    **dict.fromkeys((143, 10143), "MON"),
    **dict.fromkeys((50, 51), "XDC"),
    14: "FLR",
    3338: "PEAQ",
    4689: "IOTX",
}


def coin_symbol(network: str) -> str:
    """What gas is paid in: ``ETH``; ``GAS-31337`` where nobody has told us."""
    chain = network.partition(":")[2]
    known = _COINS.get(int(chain)) if is_evm(network) else None
    return known or f"GAS-{chain}"


def is_caip2(network: str) -> bool:
    """Whether ``network`` has the form of a CAIP-2 chain id (``namespace:reference``)."""
    return _CAIP2.fullmatch(network) is not None


def is_evm(network: str) -> bool:
    """Whether ``network`` is a canonical ``eip155:`` chain id, the only kind that is read here."""
    return _EIP155.fullmatch(network) is not None


def is_solana(network: str) -> bool:
    """Whether ``network`` has the form of a cluster of Solana (CAIP-30)."""
    return _SOLANA.fullmatch(network) is not None


def parse_chain_id(network: str) -> int:
    """The EIP-155 chain id of a CAIP-2 name: ``"eip155:8453"`` -> 8453.

    Raises ValueError for another namespace or a reference that is not a canonical number.
    """
    match = _EIP155.fullmatch(network)
    if match is None:
        raise ValueError(f"{network!r} is not an EVM network such as 'eip155:8453'.")
    return int(match[1])


def v1_name(network: str) -> str | None:
    """The name x402 v1 has for a CAIP-2 network, e.g. ``"base-sepolia"``; None if it has none."""
    configured = conf.x402.networks.get(network)
    if configured is not None and configured.v1_name:
        return configured.v1_name
    return _V1_OF_NETWORK.get(network)


def network_of_v1(name: str) -> str | None:
    """The CAIP-2 network that a v1 name stands for; None if unknown. Settings win."""
    for network, configured in conf.x402.networks.items():
        if configured.v1_name == name:
            return network
    return _NETWORK_OF_V1.get(name)


def display_name(network: str) -> str:
    """A name for people, e.g. ``"Base Sepolia"``; the CAIP-2 name where there is none."""
    configured = conf.x402.networks.get(network)
    if configured is not None and configured.name:
        return configured.name
    known = _KNOWN.get(network)
    return known.name if known is not None else network


def known_networks() -> list[KnownNetwork]:
    """The well-known networks, by chain id."""
    return list(_KNOWN.values())


def is_testnet(network: str) -> bool:
    """Whether the network is a well-known test network. Unknown networks count as real money."""
    known = _KNOWN.get(network)
    return known is not None and known.testnet


def explorer_transaction_url(network: str, transaction: str) -> str:
    """Link to a transaction in the network's block explorer; empty where there is none."""
    base = explorer_url(network)
    return f"{base}/tx/{transaction}{_explorer_query(network)}" if base and transaction else ""


def explorer_address_url(network: str, address: str) -> str:
    """Link to an address in the network's block explorer; empty where there is none."""
    base = explorer_url(network)
    return f"{base}/address/{address}{_explorer_query(network)}" if base and address else ""


def _explorer_query(network: str) -> str:
    known = _KNOWN.get(network)
    is_own = known is not None and explorer_url(network) != known.explorer_url
    return "" if known is None or is_own else known.explorer_query


def explorer_url(network: str) -> str:
    """The network's block explorer, without a trailing slash; empty where there is none."""
    configured = conf.x402.networks.get(network)
    if configured is not None and configured.explorer_url:
        return configured.explorer_url
    known = _KNOWN.get(network)
    return known.explorer_url if known is not None else ""
