"""The one state machine of a payment: claim, verify, settle, deliver, confirm, release.

=================  ==================================================================
``machine``        the transitions that exist, and the only function that makes them
``authenticity``   is it the payer's own signature
``claims``         who owns an authorization that a client presents
``settlement``     verify and settle one payment
``recording``      what settlement writes down: arrived, unknown, let go
``resolution``     finding out what an unknown outcome was
``delivery``       the stored response, debts, and what counts as delivered
``confirmation``   the periodic look at the chain
``transfers``      payments by the payer's own transfer; with ``transfer_claims``,
                   ``transfer_confirmation`` and ``proofs``, which judges them
``maintenance``    claims of dead processes, stored responses past their time
=================  ==================================================================

Nothing here knows HTTP beyond a response to store. Every write commits before the function
returns and refuses to run inside somebody else's transaction: what a view rolls back must not
roll back money.
"""
