"""Golden files of the wire: what we write must stay what it was.

``X402_REGENERATE_GOLDEN=1 pytest tests/protocol`` writes the ``server_*.json`` anew; look at the
diff before you commit it. The ``client_*.json`` are recordings of official clients and are
never written by the tests.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "golden"


def load(name: str) -> Any:
    """The contents of a golden file."""
    return json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))


def assert_golden(name: str, value: Any) -> None:
    """Compare with the golden file, or write it where the environment asks for that."""
    if os.environ.get("X402_REGENERATE_GOLDEN") == "1":
        text = json.dumps(value, indent=2, ensure_ascii=False)
        (DIRECTORY / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    assert value == load(name)
