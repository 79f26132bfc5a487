"""The one state machine of a payment: claim, verify, settle, deliver, confirm, release.

=================  ==================================================================
``machine``        the transitions that exist, and the only function that makes them
``authenticity``   is it the payer's own signature
``claims``         who owns an authorization that a client presents
``entitlements``   what a payment that was presented before entitles to
``settlement``     verify and settle one payment
``recording``      what settlement writes down: arrived, unknown, let go
``resolution``     finding out what an unknown outcome was
``delivery``       the stored response and debts
``watching``       whether a response too large to store has arrived
``deferred``       deliver now, settle later in batches
``hooks``          effects of a view that wait for its money
``announcements``  which transition sends which signal
``confirmation``   the periodic look at the chain
``scanner``        one pass over new blocks for all payments of a network
``cursor``         how far it has read, and who reads
``findings``       what it read, applied to the payments
``depth``          which payments are deep enough
``noticed``        payments that a webhook's notice may concern
``stale``          which settlements nobody waits for any more
``report``         what one run did
``transfers``      payments by the payer's own transfer; with ``transfer_claims``, ``proofs``
                   which judges them, ``transfer_findings`` and ``transfer_confirmation``
``maintenance``    claims of dead processes, stored responses past their time
=================  ==================================================================

Nothing here knows HTTP beyond a response to store. Every write commits before the function
returns and refuses to run inside somebody else's transaction: what a view rolls back must not
roll back money.
"""
