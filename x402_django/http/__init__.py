"""The gate: middleware, decorator, class-based mixin, and the answers it gives.

=============== =====================================================================
``middleware``  installs the gate; sync and async
``gate``        opens before the view, closes after it: the life of a paid request
``state``       what the gate remembers on the request
``decorators``  ``@payment_required``; ``views`` the mixin for class-based views
``responses``   402, 400, 409, 503 and the headers of a paid answer
``transfers``   the challenge that is answered with a transfer proof
``paywall``     the 402 page for people; ``pages`` how every page of ours is answered, and
                ``wallets`` what it tells a wallet
``access``      the cookie by which a browser opens what it has paid for
``resource``    canonical URL and fingerprint of a request
``status``      the page a 503 links to
=============== =====================================================================
"""
