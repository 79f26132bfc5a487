"""What is in the wheel, and that a bare project runs on it alone."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.packaging.conftest import ROOT

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "x402_django"


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_file_of_the_package_is_in_it(names: set[str]) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".po"
    }
    assert expected - names == set()


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "migrations/0001_initial.py",
        "templates/x402_django/paywall.html",
        "static/x402_django/admin/admin.css",
        "chain/devchain/artifacts/TestDollar.json",
        "testing/payer.py",
        "management/commands/x402_devchain.py",
    ],
)
def test_what_must_be_in_it(names: set[str], name: str) -> None:
    assert f"x402_django/{name}" in names


def test_nothing_else_is_in_it(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    (metadata,) = {name for name in tops if name.endswith(".dist-info")}
    assert tops == {"x402_django", metadata}
    assert f"{metadata}/licenses/LICENSE" in names


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    assert metadata["Name"] == "x402-django"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    unconditional = {
        line.partition(";")[0].strip().split("[")[0].split(">")[0].split("<")[0]
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    }
    assert unconditional == {
        "django",
        "djangorestframework",
        "celery",
        "x402",
        "web3",
        "eth-account",
        "coincurve",
        "pycryptodome",
        "segno",
        "idna",
        "jsonschema",
        "httpcore",
    }


#: What a newcomer does with the README's first block: each part into the file that it names.
PART = re.compile(r"^# shop/(\w+\.py).*\n((?:(?!# shop/).*\n)*)", re.MULTILINE)


def readme_files() -> dict[str, str]:
    (block, *_) = blocks_of(ROOT / "README.md", "python")
    return dict(PART.findall(block.code))


VISIT = """
import base64, json
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client

client = Client(HTTP_HOST="localhost")
unpaid = client.get("/weather/")
assert unpaid.status_code == 402, unpaid.status_code
challenge = json.loads(base64.b64decode(unpaid["PAYMENT-REQUIRED"]))
assert challenge["accepts"][0]["amount"] == "10000", challenge
assert unpaid.json()["accepts"][0]["network"] == "base-sepolia", unpaid.content

page = client.get("/weather/", HTTP_ACCEPT="text/html", HTTP_USER_AGENT="Mozilla/5.0")
assert page.status_code == 402 and page["Content-Type"].startswith("text/html"), page
assert b"0.01" in page.content, page.content

client.force_login(User.objects.create_superuser("merchant"))
ours = [model._meta for model in admin.site._registry if model._meta.app_label == "x402_django"]
assert {"payment", "pricerule", "receipt"} <= {meta.model_name for meta in ours}
lists = [f"/admin/x402_django/{meta.model_name}/" for meta in ours]
for path in ["/admin/", "/admin/x402_django/pricerule/add/", *lists]:
    assert client.get(path).status_code == 200, path
assert "/weather/" in client.get("/.well-known/x402").content.decode()
print("visited")
"""


@pytest.fixture(scope="module")
def bare_project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """A fresh virtual environment with the wheel and nothing else, ``startproject``, and the
    README.
    """
    directory = tmp_path_factory.mktemp("bare")
    python = directory / "venv" / "bin" / "python"
    run([sys.executable, "-m", "venv", directory / "venv"], directory)
    run([python, "-m", "pip", "install", "-q", wheel], directory)
    run([python, "-m", "django", "startproject", "shop", directory], directory)
    files = readme_files()
    assert list(files) == ["settings.py", "views.py", "urls.py"]
    files["settings.py"] += 'STATIC_ROOT = BASE_DIR / "collected"\n'
    for name, text in files.items():
        with (directory / "shop" / name).open("a") as file:
            file.write(text)
    return [python, directory / "manage.py"]


def run(command: list[str | Path], directory: Path, stdin: str | None = None) -> str:
    """Run ``command`` without this repository on the path; all that it printed."""
    ours = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH")
    done = subprocess.run(
        command,
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name not in ours},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_bare_project_runs_on_the_wheel(bare_project: list[str | Path]) -> None:
    directory = Path(bare_project[1]).parent

    def manage(*arguments: str, stdin: str | None = None) -> str:
        return run([*bare_project, *arguments], directory, stdin)

    run([bare_project[0], "-m", "pip", "check"], directory)
    assert "no issues" in manage("check")
    manage("migrate", "--verbosity", "0")
    assert "No changes detected" in manage("makemigrations", "--check", "--dry-run")
    assert "visited" in manage("shell", "--no-imports", "--verbosity", "0", stdin=VISIT)
    manage("collectstatic", "--no-input", "--verbosity", "0")
    assert (directory / "collected" / "x402_django" / "admin" / "admin.css").is_file()


#: Imported only where a site asks for it: extras, and libraries that it brings itself.
OPTIONAL = {
    *("eth", "eth_tester", "psycopg", "prometheus_client", "opentelemetry", "solana", "solders"),
    *("fpdf", "openpyxl", "unfold"),
    *("corsheaders", "drf_spectacular", "pytest"),
}
IMPORT_ALL = """
import importlib, sys
failed = []
for name in {names!r}:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{{name}}: {{error}}")
print(failed or "all there")
"""


def test_what_is_imported_late_is_installed_too(bare_project: list[str | Path]) -> None:
    """An import in a function fails when a buyer comes, and not when the site starts."""
    directory = Path(bare_project[1]).parent
    found = {
        name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported(node)
        if name.partition(".")[0] not in {*OPTIONAL, *sys.stdlib_module_names, "x402_django"}
        and not name.startswith(("x402.mechanisms.svm", "django.db.backends.postgresql"))
    }
    assert "x402.extensions.eip2612_gas_sponsoring" in found
    script = IMPORT_ALL.format(names=sorted(found))
    said = run([*bare_project, "shell", "--no-imports", "-v", "0"], directory, script)
    assert "all there" in said, said


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports, absolutely."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


SITE_TESTS = """
from django.test import TestCase
from x402_django.testing.assertions import assert_requires_payment
from x402_django.testing.instant import instant_payments
from x402_django.testing.payer import PayingClient


@instant_payments()
class WeatherTests(TestCase):
    def test_weather_is_sold(self):
        assert_requires_payment(self.client.get("/weather/"), "$0.01")
        self.assertEqual(PayingClient().get("/weather/").status_code, 200)

    def test_the_price_is_not_another(self):
        with self.assertRaisesMessage(AssertionError, "The price was to be 0.02 USD"):
            assert_requires_payment(self.client.get("/weather/"), "$0.02")
"""
SITE_PYTEST = """
import pytest
from x402_django.testing.assertions import assert_paid

pytest_plugins = ["x402_django.testing.pytest_plugin"]


@pytest.mark.django_db
def test_weather_is_sold(x402_instant, x402_client, x402_payer):
    assert_paid(x402_client.get("/weather/"), "$0.01", by=x402_payer)
    assert x402_instant.calls == {"verify": 1, "settle": 1}
"""


def test_a_site_tests_its_paid_view_in_three_lines(bare_project: list[str | Path]) -> None:
    python, manage = bare_project
    directory = Path(manage).parent
    (directory / "shop" / "tests.py").write_text(SITE_TESTS)
    assert "Ran 2 tests" in run([python, manage, "test"], directory)
    (directory / "test_with_pytest.py").write_text(SITE_PYTEST)
    run([python, "-m", "pip", "install", "-q", "pytest-django"], directory)
    pytest_run = run([python, "-m", "pytest", "-q", "--ds", "shop.settings"], directory)
    assert "1 passed" in pytest_run
