"""Outgoing webhooks, by the Standard Webhooks specification (standardwebhooks.com).

=============  ==================================================================================
``secrets``    an endpoint's signing secrets: made, sealed, rotated
``signing``    the three headers
``payloads``   what a message says
``outbox``     ledger rows become messages, each once, without a query on the payer's path
``addresses``  which addresses may be connected to (threat 24)
``answers``    how an attempt went
``sending``    one POST, bounded in time and size, to the address that was looked at
``delivery``   who sends what and when: leases, retries, giving up
=============  ==================================================================================
"""
