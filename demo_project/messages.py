"""Messages between the demo's processes, as files of a directory.

kombu's own transport writes a message into the file in which others look for it already, so a
worker may read it before it is written, and end. Here it is written elsewhere first.
"""

from __future__ import annotations

import os
import uuid
from time import monotonic
from typing import Any

from kombu.transport import filesystem
from kombu.utils.encoding import str_to_bytes
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A message is there whole, or not at all."""

    # kombu's own two signatures of this do not agree either.
    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        path = os.path.join(self.data_folder_out, name)
        with open(f"{path}.unfinished", "wb") as file:  # no queue's name ends so
            file.write(str_to_bytes(dumps(payload)))
        os.replace(f"{path}.unfinished", path)


class Transport(filesystem.Transport):
    """``filesystem://`` with such channels."""

    Channel = Channel
