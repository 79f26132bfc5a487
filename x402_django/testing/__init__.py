"""Public test kit: what a site that uses x402-django needs to test its paid views.

Nothing here depends on a test runner. Import the module you need; each says what it loads.
"""
