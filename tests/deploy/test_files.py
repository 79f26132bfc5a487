"""The files under deploy/: well-formed, and about programs, modules and variables that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing_service

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
MODULES = re.compile(r"\b(demo_project\.\w+|uvicorn_worker)\b")
COMMANDS = re.compile(r"manage\.py (\w+)")


def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def as_text(command: Any) -> str:
    return command if isinstance(command, str) else " ".join(command)


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        missing_service("systemd-analyze", "install systemd to verify the units")
    for program in ("python", "gunicorn", "celery"):
        path = tmp_path / "srv/.venv/bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    copies = []
    for unit in UNITS:
        # A template is verified as an instance of it.
        copy = tmp_path / unit.name.replace("@.", "@8001.")
        copy.write_text(unit.read_text().replace("/srv/shop", str(tmp_path / "srv")))
        copies.append(str(copy))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *copies],
        capture_output=True,
        text=True,
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "shop" in line]
    assert (done.returncode, ours) == (0, [])


def test_every_unit_is_documented():
    page = (ROOT / "docs/deployment.md").read_text()
    for unit in UNITS:
        name = unit.name.removesuffix(".service").partition("@")[0]
        assert name.partition(".")[0] in page, unit.name


def test_two_web_servers_two_workers_one_database():
    services = compose()["services"]
    assert set(services) == {
        "postgres", "redis", "migrate", "web-1", "web-2", "worker-1", "worker-2", "beat",
    }  # fmt: skip
    for one, other in (("web-1", "web-2"), ("worker-1", "worker-2")):
        assert services[one]["command"] == services[other]["command"]
    assert services["web-1"]["ports"] != services["web-2"]["ports"]
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
    for name in ("web-1", "web-2", "worker-1", "worker-2", "beat", "migrate"):
        service = services[name]
        assert service["env_file"] == "shop.env"
        assert service["environment"]["DATABASE_URL"].startswith("postgres://")
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_commands_name_modules_that_exist():
    texts = [unit.read_text() for unit in UNITS]
    texts += [as_text(service.get("command", "")) for service in compose()["services"].values()]
    texts.append((DEPLOY / "Dockerfile").read_text())
    modules = {module for text in texts for module in MODULES.findall(text)}
    assert {"demo_project.asgi", "uvicorn_worker"} <= modules
    for module in modules:
        assert find_spec(module) is not None, module
    from django.core.management import get_commands

    commands = {command for text in texts for command in COMMANDS.findall(text)}
    assert {"migrate", "x402_reconcile", "x402_wallets"} <= commands
    assert commands <= set(get_commands())


def test_every_variable_is_read_by_the_shop():
    example = (DEPLOY / "shop.env.example").read_text()
    variables = re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE)
    sources = "".join(path.read_text() for path in (ROOT / "demo_project").glob("*.py"))
    page = (ROOT / "docs/deployment.md").read_text()
    assert len(variables) > 10
    for variable in variables:
        assert f'"{variable}"' in sources or variable == "DATABASE_URL", variable
        assert variable in page, variable


def test_no_file_holds_a_key():
    for path in (*UNITS, *DEPLOY.glob("*.*")):
        if path.is_file():
            assert not re.search(r"\b(0x)?[0-9a-fA-F]{64}\b", path.read_text()), path.name
