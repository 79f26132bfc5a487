"""System checks. What each id means and how to mend it stands in ``docs/checks.md``.

==================  =====================================================================
``shapes``          ``X402`` itself: unknown keys, wrong types, numbers out of range
``networks``        networks, tokens and the payee's address
``facilitators``    backends, and what each says of its own options
``middleware``      the gate is installed, once, and nothing undoes it
``extensions``      extensions of the protocol can be loaded
``proofs``          transfer proofs
``cors``            buyers that are pages of other origins
``deployment``      what is fine at home and hurts in production
``service``         the facilitator service can settle, in time for who asks
``webhooks``        notices about the chain can be verified
``alerts``          there is somebody to tell
``receipts``        the font that receipts are printed in
``refunds``         the wallets that send refunds
``database``        what only rows can tell (``check --database``, ``migrate``)
==================  =====================================================================

Checks read the setting as the site wrote it: a wrong value must be reported, not raised. None
asks the network, and none but ``database`` asks a database. Facilitators report ids from 030.
"""

from x402_django.checks.alerts import check_alerts
from x402_django.checks.cors import check_cors
from x402_django.checks.database import check_prices, check_ways_of_being_paid
from x402_django.checks.deployment import (
    check_base_url,
    check_celery,
    check_ledger_database,
    check_secrets,
    check_status_url,
    check_time_zone,
)
from x402_django.checks.extensions import check_extensions
from x402_django.checks.facilitators import check_facilitators, check_networks_have_proof
from x402_django.checks.metrics import check_metrics
from x402_django.checks.middleware import check_middleware
from x402_django.checks.networks import (
    check_assets,
    check_network_names,
    check_network_pay_to,
    check_pay_to,
)
from x402_django.checks.proofs import check_transfer_proofs
from x402_django.checks.receipts import check_receipt_font
from x402_django.checks.refunds import check_refund_wallets
from x402_django.checks.service import check_service
from x402_django.checks.shapes import check_keys, check_numbers, check_shapes, check_timeouts
from x402_django.checks.webhooks import check_chain_webhooks, check_outgoing_webhooks

__all__ = [
    "check_alerts",
    "check_assets",
    "check_base_url",
    "check_celery",
    "check_chain_webhooks",
    "check_cors",
    "check_extensions",
    "check_facilitators",
    "check_keys",
    "check_ledger_database",
    "check_metrics",
    "check_middleware",
    "check_network_names",
    "check_network_pay_to",
    "check_networks_have_proof",
    "check_numbers",
    "check_outgoing_webhooks",
    "check_pay_to",
    "check_prices",
    "check_receipt_font",
    "check_refund_wallets",
    "check_secrets",
    "check_service",
    "check_shapes",
    "check_status_url",
    "check_time_zone",
    "check_timeouts",
    "check_transfer_proofs",
    "check_ways_of_being_paid",
]
