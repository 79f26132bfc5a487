"""Settling for others: what the facilitator service does, without HTTP.

============  ======================================================================
``keys``      API keys: made, found, rotated, revoked
``budget``    how much a key may ask for and spend
``settling``  verify and settle on the ledger, under a kind of its own
``listing``   what was paid for, for buyers to find
============  ======================================================================
"""
