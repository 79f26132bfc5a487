"""Selling on Solana, through a facilitator: nothing here leaves this process but for loopback."""
