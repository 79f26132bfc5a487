"""The first requests of a process arrive together; none of them meets a half-loaded library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from x402_django import libraries

ROOT = Path(__file__).resolve().parents[1]
#: Packages whose modules import one another in circles, or are slow.
HEAVY = {"x402", "web3", "eth_account", "requests", "httpx", "rlp", "solders"}
#: Only for scripts, with one thread: the buyer's side.
BUYING = ROOT / "x402_django/protocol/buying.py"
NOT_SERVING = {"testing", "devchain", "management"}

#: Each thread wants all of it, and begins elsewhere: what serving threads do, made likelier.
COLD = """
import sys, threading
from importlib import import_module
from x402_django import libraries

names = {names}
start = threading.Barrier(16)
troubles = []

def enter(number):
    start.wait()
    try:
        libraries.load()
        for name in names[number:] + names[:number]:
            import_module(name)
    except Exception as error:
        troubles.append(type(error).__name__)

threads = [threading.Thread(target=enter, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("troubles:", troubles)
"""


def run_cold(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("attempt", range(3))
def test_threads_of_a_fresh_process_enter_the_sdk_at_once(attempt: int) -> None:
    names = sorted(name for name in imported_while_serving() if not is_for_solana(name))
    assert run_cold(COLD.format(names=names)) == "troubles: []"


def is_for_solana(name: str) -> bool:
    return name.startswith(("solders", "x402.mechanisms.svm"))


def imported_while_serving() -> set[str]:
    """Heavy modules that the app imports anywhere but for type checkers."""
    found: set[str] = set()
    for path in (ROOT / "x402_django").rglob("*.py"):
        if path == BUYING or NOT_SERVING & set(path.parts):
            continue
        found |= _imports(ast.parse(path.read_text()))
    return {name for name in found if name.partition(".")[0] in HEAVY}


def _imports(node: ast.AST) -> set[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return set()
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module}
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return set().union(*map(_imports, ast.iter_child_nodes(node)))


def loaded_by(function: str) -> set[str]:
    """The modules of a fresh process that has called ``function`` of ``libraries``."""
    script = f"import sys\nfrom x402_django import libraries\nlibraries.{function}()\n"
    return set(run_cold(script + "print(*sys.modules)").split())


def test_all_that_is_imported_later_is_loaded() -> None:
    """Whoever imports another module of these packages adds it to the list."""
    expected = {name for name in imported_while_serving() if not is_for_solana(name)}
    assert "x402.mechanisms.evm.exact.facilitator" in expected
    assert expected - loaded_by("load") == set()


def test_all_that_solana_needs_is_loaded() -> None:
    pytest.importorskip("solders", reason="the SDK's part for Solana is not installed")
    expected = imported_while_serving()
    assert "x402.mechanisms.svm.utils" in expected
    assert expected - loaded_by("load_solana") == set()


def test_a_missing_library_is_named_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than taken for loaded after the first time."""
    monkeypatch.setitem(libraries.LIBRARIES, "missing", ("no_such_library",))
    for _ in range(2):
        with pytest.raises(ImportError, match="no_such_library"):
            libraries.load("missing")
