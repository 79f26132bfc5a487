"""Counts how often each view of the test shop ran."""

from __future__ import annotations

from collections import Counter

runs: Counter[str] = Counter()
