"""x402 on the wire, versions 1 and 2. The only room that imports the official ``x402`` SDK.

=============== ==========================================================================
``types``       what the other rooms pass around: Offer, PresentedPayment, SignedPayment
``wire``        a request's payment header -> PresentedPayment, strictly
``offers``      PresentedPayment + our offers -> SignedPayment, or a refusal
``signatures``  EIP-712 digests and signature recovery, without a network
``challenge``   offers -> the ``PAYMENT-REQUIRED`` header and the v1 body
``settlement``  an outcome -> the ``PAYMENT-RESPONSE`` header
``proofs``      transfer proofs: the challenge for one, and the header that answers it
``identifiers`` payment identifiers, in a payload or a header
``sign_in``     sign-in by wallet: the challenge in a 402, and the header that answers it
``networks``    CAIP-2, v1 names, names for people, block explorers
``assets``      tokens known by the SDK or the site's settings; EIP-55 addresses
``sdk``         the door to the SDK's models, scheme code and HTTP client
=============== ==========================================================================
"""
