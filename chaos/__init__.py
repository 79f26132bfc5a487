"""A shop under fire: does anybody lose a payment, or pay twice?

    python -m chaos --seconds 60            (make chaos)

Many buyers shop at two web processes, with two Celery workers, on PostgreSQL and a real broker,
paid on a development chain (Anvil, if it is here). Meanwhile processes are killed with SIGKILL, by
a supervisor and at named points of their own code, the node is cut off, slow, or loses its answers,
buyers hang up, and the chain is reorganised. Then everything comes back, and the books are compared
to the unit.

The seed decides what the storm and the buyers do; at which passing of a named point a process dies
is chance.

``settings``, ``urls``, ``site``, ``wsgi``, ``asgi``, ``apps``: the shop
``faults``      where its processes kill themselves
``nodes``       the chain that pays
``proxy``       the way to the node, which can be cut
``processes``   what is started, killed, and started again
``world``       all of it together, with a database, a queue and a chain of its own
``buyers``      who shops, and what they were told
``storm``       what goes wrong, and when
``audit``       what must hold at the end
"""
