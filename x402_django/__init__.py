"""Sell any Django view over HTTP 402 with the x402 protocol and stablecoins."""

__version__ = "0.1.0"
