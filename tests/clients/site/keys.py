"""How the site authenticates to its facilitator."""

from __future__ import annotations

import os


def headers() -> dict[str, dict[str, str]]:
    """The API key of the facilitator service, for each of its addresses."""
    header = {"Authorization": f"Bearer {os.environ['SITE_FACILITATOR_SECRET']}"}
    return dict.fromkeys(("verify", "settle", "supported"), header)
