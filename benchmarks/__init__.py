"""What a paid request costs, beside the official SDK's middleware and a view that is free.

``python -m benchmarks`` runs everything, ``python -m benchmarks --quick`` briefly, and
``python -m benchmarks challenge paid`` the named sections. Nothing here is a test: numbers are
printed with what is wanted of them, and depend on the machine. All sides of a comparison run in
one process, in turns, so that noise meets them alike; the ratios are what counts.
"""
