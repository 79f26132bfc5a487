"""Commands of ``manage.py``, all named ``x402_*``."""
