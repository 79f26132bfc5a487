"""How the site authenticates to its facilitator."""

from __future__ import annotations

import os


def headers() -> dict[str, dict[str, str]]:
    """The API key of the facilitator service, for each of its addresses; some want none."""
    secret = os.environ["SITE_FACILITATOR_SECRET"]
    header = {"Authorization": f"Bearer {secret}"} if secret else {}
    return dict.fromkeys(("verify", "settle", "supported"), header)
