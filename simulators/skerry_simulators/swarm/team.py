"""The processes of a swarm, seen from the one that orders them about."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from skerry_simulators.chaos.mortal import mortal
from skerry_simulators.errors import SimulatorError

SPARE_FILES = 64
OPENING_AT_ONCE = 80  # a shard; beyond a backlog of about 100 the kernel repeats a SYN a second later
LOOK_S = 0.1


def most_connections() -> int:
    """Return how many connections one process can hold here (`ulimit -Hn`)."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES


class Team:
    """All processes of one swarm. `counts` are the sums of the last look."""

    def __init__(self, devices: int, processes: int, ports: Sequence[int], boot: str, credentials: str = "") -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self.devices = devices
        self.counts: dict[str, Any] = {}
        first = 0
        try:
            for number in range(processes):
                count = devices // processes + (number < devices % processes)
                told = {"first": first, "count": count, "ports": list(ports), "boot": boot, "credentials": credentials}
                self._children.append(self._start({**told, "opening": max(1, OPENING_AT_ONCE // processes)}))
                first += count
            self.before = [self._answer(child) for child in self._children]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def order(self, do: str, **parts: Any) -> None:
        """Give every process an order."""
        for child in self._children:
            self._tell(child, {"do": do, **parts})

    def share(self, do: str, of: int, **parts: Any) -> None:
        """Give every process an order, where each part that is `Team` is its share of so many devices or messages."""
        for number, child in enumerate(self._children):
            mine = of // len(self._children) + (number < of % len(self._children))
            self._tell(child, {"do": do, **{name: mine if value is Team else value for name, value in parts.items()}})

    def look(self) -> dict[str, Any]:
        """Return all counters: sums, and of what is a moment the latest."""
        self.order("stat")
        found = [self._answer(child) for child in self._children]
        sums: dict[str, Any] = {}
        for each in found:
            for name, value in each.items():
                if isinstance(value, dict):
                    kept = sums.setdefault(name, {})
                    for key, number in value.items():
                        kept[key] = kept.get(key, 0) + number
                elif name.startswith("last_"):
                    sums[name] = max(sums.get(name, 0.0), value)
                elif name.startswith("first_"):  # 0: not yet
                    sums[name] = min(value or sums.get(name, 0.0), sums.get(name, 0.0) or value)
                else:
                    sums[name] = sums.get(name, 0) + value
        self.counts = sums
        return sums

    def until(
        self,
        true: Callable[[dict[str, Any]], bool],
        limit_s: float,
        what: str,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Look until something holds; return the counters.

        Raises:
            SimulatorError: it does not within `limit_s`.
        """
        deadline_s = time.monotonic() + limit_s
        while True:
            found = self.look()
            if true(found):
                return found
            say(f"{found['ready']:,} connected, {found['acked']:,} of {found['made']:,} acknowledged")
            if time.monotonic() > deadline_s:
                raise SimulatorError(
                    f"not within {limit_s:g} s: {what} ({found['ready']:,} of {self.devices:,} connected, "
                    f"{found['acked']:,} of {found['made']:,} acknowledged)",
                    hint="is the machine very busy? give the swarm fewer devices",
                )
            time.sleep(LOOK_S)

    def close(self) -> None:
        """Let every process leave, and wait for it."""
        for child in self._children:
            with contextlib.suppress(OSError, SimulatorError):
                self._tell(child, {"do": "leave"})
        for child in self._children:
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()
        self._children = []

    @staticmethod
    def _start(told: dict[str, Any]) -> subprocess.Popen[bytes]:
        words = mortal([sys.executable, "-m", "skerry_simulators.swarm.program"])
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ})
        Team._tell(child, told)
        return child

    @staticmethod
    def _tell(child: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
        if child.stdin is None:
            raise SimulatorError("a process of the swarm has no input")
        try:
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.flush()
        except OSError as error:
            raise SimulatorError("a process of the swarm has ended", hint="its last words are above") from error

    @staticmethod
    def _answer(child: subprocess.Popen[bytes]) -> dict[str, Any]:
        line = child.stdout.readline() if child.stdout is not None else b""
        if not line:
            raise SimulatorError("a process of the swarm has ended", hint="its last words are above")
        found: dict[str, Any] = json.loads(line)
        return found
