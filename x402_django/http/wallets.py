"""What a wallet must be told: the network it may not know, and how to open a page in it.

Nothing here is loaded or asked from anybody. The links lead to the wallets' own sites and apps,
once the visitor follows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote as percent_encode
from urllib.parse import urlsplit

from django.utils.safestring import SafeString, mark_safe

from x402_django.conf import x402
from x402_django.protocol.networks import display_name, explorer_url, parse_chain_id

#: A longer address makes a code that phones cannot read off a screen.
MAX_QR_LENGTH: Final = 400


@dataclass(frozen=True, slots=True)
class _Public:
    """A network as its operators publish it: what fees are paid in, and an open endpoint."""

    coin: str
    symbol: str
    rpc_url: str


_PUBLIC: Final = {
    "eip155:137": _Public("POL", "POL", "https://polygon-rpc.com"),
    "eip155:8453": _Public("Ether", "ETH", "https://mainnet.base.org"),
    "eip155:42161": _Public("Ether", "ETH", "https://arb1.arbitrum.io/rpc"),
    "eip155:42220": _Public("Celo", "CELO", "https://forno.celo.org"),
    "eip155:43113": _Public("Avalanche", "AVAX", "https://api.avax-test.network/ext/bc/C/rpc"),
    "eip155:43114": _Public("Avalanche", "AVAX", "https://api.avax.network/ext/bc/C/rpc"),
    "eip155:80002": _Public("POL", "POL", "https://rpc-amoy.polygon.technology"),
    "eip155:84532": _Public("Ether", "ETH", "https://sepolia.base.org"),
    "eip155:421614": _Public("Ether", "ETH", "https://sepolia-rollup.arbitrum.io/rpc"),
}


def chain_parameters(network: str) -> dict[str, Any]:
    """The parameter of ``wallet_addEthereumChain`` (EIP-3085) for a CAIP-2 network.

    ``rpcUrls`` are ``WALLET_RPC_URLS`` of the settings, or the network's own public endpoint.
    The site's ``RPC_URLS`` are never told: they often carry an access key. It may be empty; the
    network cannot be added to a wallet then, only chosen.
    """
    public = _PUBLIC.get(network)
    configured = x402.networks.get(network)
    urls = list(configured.wallet_rpc_urls) if configured is not None else []
    if not urls and public is not None:
        urls = [public.rpc_url]
    explorer = explorer_url(network)
    return {
        "chainId": hex(parse_chain_id(network)),
        "chainName": display_name(network),
        "nativeCurrency": {
            "name": public.coin if public else "Ether",
            "symbol": public.symbol if public else "ETH",
            "decimals": 18,
        },
        "rpcUrls": urls,
        **({"blockExplorerUrls": [explorer]} if explorer else {}),
    }


def app_links(url: str) -> list[dict[str, str]]:
    """Links that open ``url`` in the browser of a wallet on a phone, as the wallets define them."""
    bare = url.removeprefix(f"{urlsplit(url).scheme}://")
    encoded = percent_encode(url, safe="")
    return [
        {"name": "MetaMask", "url": f"https://link.metamask.io/dapp/{bare}"},
        {"name": "Coinbase Wallet", "url": f"https://go.cb-w.com/dapp?cb_url={encoded}"},
        {
            "name": "Trust Wallet",
            "url": f"https://link.trustwallet.com/open_url?coin_id=60&url={encoded}",
        },
    ]


def qr_code(text: str, *, longest: int = MAX_QR_LENGTH) -> SafeString:
    """``text`` as a QR code: an SVG element; empty where it would be too dense to be read."""
    if len(text) > longest:
        return SafeString("")
    import segno  # needed for people only; agents' challenges do without

    code = segno.make(text, error="l", micro=False)
    # segno writes numbers and commands of a path here, nothing of the text itself.
    return mark_safe(  # noqa: S308
        code.svg_inline(omitsize=True, border=4, dark="#000", light="#fff", svgclass="qr")
    )
