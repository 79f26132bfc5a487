"""What can go wrong with the demo itself."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on. Its text is a sentence for whoever typed ``make demo``."""
