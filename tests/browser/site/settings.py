"""Settings of the site that people buy from with a browser."""

from __future__ import annotations

import os
from typing import Any

from tests.clients.site.settings import *  # noqa: F403
from tests.clients.site.settings import X402 as _X402

ROOT_URLCONF = "tests.browser.site.urls"

_NETWORKS: dict[str, Any] = _X402["NETWORKS"]  # type: ignore[assignment]
_NETWORKS["eip155:84532"]["WALLET_RPC_URLS"] = [os.environ["SITE_RPC_URL"]]

# Short: what the network holds up becomes unknown, and is asked for again, within the test's time.
X402 = {**_X402, "SETTLEMENT_TIMEOUT": 2, "RETRY_AFTER": 1, "TRANSFER_PROOFS": True}
