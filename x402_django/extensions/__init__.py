"""Extensions of the protocol: what a challenge offers beside its prices, and a payload brings back.

======================  =====================================================================
``base``                Extension, the class to derive from, and Asked, what its hooks are given
``registry``            the extensions that ``X402["EXTENSIONS"]`` turns on, and their hooks
``payment_identifier``  the payer's own name for a purchase
``sign_in_with_x``      a wallet that has paid comes back
======================  =====================================================================

How to write one stands, with an example, in ``docs/extensions.md``.
"""

from x402_django.extensions.base import Asked, Extension

__all__ = ["Asked", "Extension"]
