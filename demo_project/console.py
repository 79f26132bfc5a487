"""What a person sees while the demo runs. Printed at once, also into a pipe."""

from __future__ import annotations


def say(text: str = "") -> None:
    """A line, or several."""
    print(text, flush=True)


def note(label: str, text: str) -> None:
    """One fact under its label."""
    say(f"  {label:<9} {text}")
