"""The tutorial, followed to the letter, in a project and processes of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docs.blocks import ROOT, blocks_of
from x402_django.testing.payer import decode

PAGE = ROOT / "docs/tutorial.md"
#: Lines that make the environment which the tests have, or that ask the reader something.
NOT_HERE = ("python -m venv", "pip install", "curl", "python manage.py createsuperuser")

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Reader:
    """Somebody who types what the page says. The page's ports may be taken, so others stand in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {"8545": str(free_port()), "8000": str(free_port())}
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.running: list[subprocess.Popen[str]] = []
        self.printed: dict[str, str] = {}

    def translated(self, text: str) -> str:
        return re.sub(r"\b(8545|8000)\b", lambda port: self.ports[port[1]], text)

    def write(self, code: str) -> None:
        """Code that begins with the name of its file."""
        name, rest = code.split("\n", 1)
        file = self.directory / name.removeprefix("# ").split(",")[0]
        kept = file.read_text() if "at the end" in name else ""
        file.write_text(kept + self.translated(rest))

    def type(self, line: str) -> None:
        line = self.translated(line)
        if line.startswith(NOT_HERE):
            return
        if line.startswith("export "):
            name, value = line.removeprefix("export ").split("=")
            self.environment[name] = value
            return
        if line.startswith("django-admin startproject"):
            words = ["python", "-m", "django", "startproject", "shop", str(self.directory)]
        else:
            words = shlex.split(line.removesuffix("&"))
        words = [sys.executable if word == "python" else word for word in words]
        if line.endswith("&"):
            more = ["--noreload"] if "runserver" in words else ["--port", self.ports["8545"]]
            self.start([*words, *more])
        else:
            done = self.run(words)
            self.printed[line.split("manage.py ")[-1]] = done.stdout + done.stderr

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, **self.where, capture_output=True, timeout=120)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def start(self, words: list[str]) -> None:
        log = (self.directory / f"{words[2]}.log").open("w")
        self.running.append(subprocess.Popen(words, **self.where, stdout=log, stderr=log))
        port = self.ports["8545" if "x402_devchain" in words else "8000"]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
            except httpx.HTTPError:
                time.sleep(0.2)
            else:
                return
        raise AssertionError(f"{words} did not start: {Path(log.name).read_text()}")

    @property
    def where(self) -> dict[str, Any]:
        return {"cwd": self.directory, "env": self.environment, "text": True}

    def stop(self) -> None:
        for process in self.running:
            process.terminate()
            process.wait(20)


@pytest.fixture
def reader(tmp_path):
    reader = Reader(tmp_path)
    yield reader
    reader.stop()


def test_ten_minutes(reader):
    steps = [*blocks_of(PAGE, "python"), *blocks_of(PAGE, "console")]
    for block in sorted(steps, key=lambda step: step.line):
        if block.language == "python":
            reader.write(block.code)
            continue
        for line in re.findall(r"^\$ (.*)$", block.text, re.MULTILINE):
            for command in line.split(" && "):
                if not command.startswith(("cd ", ". ")):
                    reader.type(command)

    refused = httpx.get(reader.translated("http://127.0.0.1:8000/weather/"))
    offer = decode(refused.headers["PAYMENT-REQUIRED"])["accepts"][0]
    assert (refused.status_code, offer["amount"]) == (402, "10000")
    printed = {command.split(" http")[0]: text for command, text in reader.printed.items()}
    dry, bought = [text for name, text in reader.printed.items() if name.startswith("x402_pay")]
    assert "0.01 TUSD" in dry
    assert "would be paid" in dry
    buyer = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
    answer = json.loads(re.search(r"^\{.*\}$", bought, re.MULTILINE)[0])
    assert answer == {"sky": "blue", "payer": buyer}
    assert "no issues" in printed["check"]
    script = (
        "from x402_django.models import Payment, Receipt;"
        "print([(p.payer, p.state, p.amount) for p in Payment.objects.all()],"
        " Receipt.objects.count())"
    )
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", script]
    assert reader.run(shell).stdout.strip() == f"[('{buyer}', 'final', 10000)] 1"
