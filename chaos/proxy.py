"""The way to the node: a TCP proxy that can be cut, be slow, and lose answers."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

#: Seconds that everything takes longer while the way is slow: with several requests for a
#: payment, longer than some of its time-outs.
DELAY = 0.7


class Way(Enum):
    """How the way to the node is."""

    OPEN = "open"
    CUT = "cut"  # nobody is there
    SLOW = "slow"
    LOSSY = "lossy"  # the node gets every request, and nobody its answers


class Proxy:
    """Listens on ``url`` and passes on to the node, as ``way`` says at that moment.

    A context manager. ``harmed`` counts the connections that suffered, by way.
    """

    def __init__(self, node: str) -> None:
        parts = urlsplit(node)
        self._node = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.way = Way.OPEN
        self.harmed: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Closing alone would not wake a thread that waits in accept.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            node = socket.create_connection(self._node, timeout=30)
        except OSError:
            client.close()
            return
        answers = threading.Thread(target=self._pass_on, args=(node, client, True), daemon=True)
        answers.start()
        self._pass_on(client, node, False)
        answers.join()
        client.close()
        node.close()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                way = self.way
                if way is not Way.OPEN and (is_answer or way is not Way.LOSSY):
                    self.harmed[way.value] += 1
                if way is Way.CUT or (way is Way.LOSSY and is_answer):
                    break
                if way is Way.SLOW:
                    time.sleep(DELAY)
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
