"""What ``x402_doctor`` looks at. Nothing here pays, claims, or changes anything.

===========  ==================================================================
``symptom``  what is said of one thing that is wrong: what, and what to do
``routes``   the site's paid pages that can be asked for without an argument
``inside``   settings, database, nodes, tokens, facilitators, wallets, workers
``outside``  the site as a buyer meets it: over HTTP, with whatever is in between
===========  ==================================================================
"""
