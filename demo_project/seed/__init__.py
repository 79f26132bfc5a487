"""A ledger to look at: plausible payments by the million, without a chain or a buyer.

``make seed ROWS=5000000`` fills the database of ``DATABASE_URL``. Every invariant of a real ledger
holds: its constraints, a history that the state machine draws, a receipt for what has settled and
for nothing else, sums that agree. Nothing in it can be settled: the signatures are random.

===========  ==================================================================================
``market``   what is sold and for what money, who buys: methods, rules, resources, payers
``seasons``  when they buy: two years of growth, weekdays, hours, and bursts
``fates``    what becomes of payments, as the state machine draws it
``outbox``   the blocks of the chains and the wallets' transactions in them
``books``    the rows of all that
``filling``  into the database, fast: on PostgreSQL by COPY, with the indexes built afterwards
``ledger``   all of that, in order
===========  ==================================================================================
"""
