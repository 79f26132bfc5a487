"""Refunds: money that goes back to who paid.

==============  ============================================================================
``moving``      the transitions of a refund, and the only function that makes them
``requesting``  asked for, approved by a second person, rejected; what was owed is owed no more
``wallets``     whose key may send back what an address was paid
``sending``     through the outbox, once; followed until nothing can undo it
``by_hand``     sent by the merchant, and proven by its transaction
``delivering``  the other way to put it right: what was sold is handed over once more
==============  ============================================================================

::

    requested ─▶ approved ─▶ sending ⇄ sent ─▶ final
        │           │           └─▶ failed         provably nothing moved, and nothing will
        ▼           ▼
             rejected
"""
