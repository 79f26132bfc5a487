"""The demo's broker is a directory: a message in it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

import demo_project.celery  # noqa: F401 - names the transport
from demo_project.messages import Transport


@pytest.fixture
def queue(tmp_path):
    folders = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
    options = {**folders, "control_folder": str(tmp_path / "control")}
    (tmp_path / "control").mkdir()
    with Connection("filesystem://localhost", transport_options=options) as connection:
        assert type(connection.transport) is Transport
        yield connection.SimpleQueue(tmp_path.name)  # kombu remembers queues by name


def test_what_is_put_is_got(queue, tmp_path):
    queue.put({"task": "settle"})
    message = queue.get(timeout=1)
    assert message.payload == {"task": "settle"}
    message.ack()
    assert [name for name in os.listdir(tmp_path) if name != "control"] == []


def test_nobody_sees_a_message_before_it_is_written(queue, tmp_path, monkeypatch):
    seen = []

    def replace(source, target):
        seen.append([name for name in os.listdir(tmp_path) if name.endswith(".msg")])
        assert Path(source).read_bytes()
        real(source, target)

    real = os.replace
    monkeypatch.setattr("demo_project.messages.os.replace", replace)
    queue.put("first")
    assert seen == [[]]
    assert queue.get(timeout=1).payload == "first"
    with pytest.raises((queue.Empty, OperationalError)):
        queue.get(block=False)
