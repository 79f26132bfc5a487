"""The gate: middleware, decorator, class-based mixin, and the answers it gives.

=============== =====================================================================
``middleware``  installs the gate; sync and async
``gate``        opens before the view, closes after it: the life of a paid request
``state``       what the gate remembers on the request
``decorators``  ``@payment_required``; ``views`` the mixin for class-based views
``responses``   402, 400, 409, 503 and the headers of a paid answer
``transfers``   the challenge that is answered with a transfer proof
``resource``    canonical URL and fingerprint of a request
``status``      the page a 503 links to
=============== =====================================================================
"""
