"""The running agent's own word on how it fares, asked over its Unix socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skerry_agent import sockets
from skerry_agent.errors import NetworkError


def ask_status(path: Path) -> dict[str, Any]:
    """Return the running daemon's status, asked over its Unix socket.

    Raises:
        NetworkError: no daemon answers there.
    """
    hint = "start it: skerry agent run"
    try:
        with sockets.connect(path, 10.0) as connection:
            connection.sendall(b"GET /skerry/status HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n")
            with connection.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
    except OSError as error:
        raise NetworkError(f"no agent answers at {path}: {error.strerror or error}", hint=hint) from error
    try:
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise ValueError
        found: dict[str, Any] = json.loads(body)
    except ValueError:
        raise NetworkError(f"no agent answers at {path}, but something else", hint=hint) from None
    return found
