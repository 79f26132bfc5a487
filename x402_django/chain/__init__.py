"""Talking to networks: RPC, tokens, logs, wallets, and the embedded development chain."""
