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
        {first}
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
    names = sorted(imported_while_serving() - set(libraries.SOLANA_LIBRARIES) - {"x402"})
    names = [name for name in names if "svm" not in name and "solders" not in name]
    assert run_cold(COLD.format(names=names, first="libraries.load()")) == "troubles: []"


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


def test_all_that_is_imported_later_is_loaded() -> None:
    """Whoever imports another module of these packages adds it to the list."""
    expected = imported_while_serving()
    assert "x402.mechanisms.evm.exact.facilitator" in expected
    pytest.importorskip("solders")
    loaded = run_cold(
        "import sys\nfrom x402_django import libraries\nlibraries.load_solana()\n"
        "print(*sys.modules)"
    ).split()
    assert expected - set(loaded) == set()


def test_an_uninstalled_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asked for again the next time, rather than taken for loaded."""
    monkeypatch.setattr(libraries, "_loaded", set())
    for _ in range(2):
        with pytest.raises(ImportError, match="no_such_library"):
            libraries.load(("no_such_library",))
