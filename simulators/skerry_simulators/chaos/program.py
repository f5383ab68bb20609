"""A program beside an unmodified agent: it asks for inferences by the local API, has each one kept under an id of its
own, and believes only what the agent answers.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from pathlib import Path

from skerry_agent.client import LocalClient
from skerry_agent.errors import AgentError

AT_ONCE = 16
PAUSE_S = 0.2
KEPT = ("kept", "sent", "acknowledged")


class Program:
    """Runs in a thread until told to stop. `kept` are the ids of captures that the agent said it has."""

    def __init__(self, socket: Path, model: str, inputs: int) -> None:
        self.kept: set[str] = set()
        self.dropped: dict[str, str] = {}
        self.asked = 0
        self._socket, self._model, self._inputs = socket, model, inputs
        self._stop = threading.Event()
        self._waiting: list[str] = []
        self._thread = threading.Thread(target=self._run, name="program", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after a last look at what is still open."""
        self._stop.set()
        self._thread.join(30.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            # An agent that was just killed refuses, or breaks off in the middle: then what became of an id is open.
            with contextlib.suppress(AgentError, OSError, ValueError):
                with LocalClient(self._socket) as client:
                    while not self._stop.is_set():
                        self._ask(client)
                        self._stop.wait(PAUSE_S)
                        self._look(client)
            self._stop.wait(PAUSE_S)
        with contextlib.suppress(AgentError, OSError, ValueError), LocalClient(self._socket) as client:
            self._look(client)

    def _ask(self, client: LocalClient) -> None:
        for _ in range(AT_ONCE):
            self.asked += 1
            name = f"c{self.asked}"
            data = struct.pack(f"<{self._inputs}f", *(float((self.asked + i) % 7) for i in range(self._inputs)))
            client.infer(self._model, {"x": data}, capture=name)
            self._waiting.append(name)

    def _look(self, client: LocalClient) -> None:
        still = []
        for name in self._waiting:
            try:
                found = client.captured(name)
            except AgentError as error:
                if getattr(error, "status", 0) != 404:  # killed before it was kept: the agent never said it was
                    raise
                continue
            if found["state"] in KEPT:
                self.kept.add(name)
            elif found["state"] == "dropped":
                self.dropped[name] = str(found.get("reason", ""))
            else:
                still.append(name)
        self._waiting = still
