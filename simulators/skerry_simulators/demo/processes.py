"""The demonstration's children: started with their own log, known by id, ended by id and by nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class DemoError(RuntimeError):
    """A step did not come to its end. `hint` says where to look."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def free_port() -> int:
    """Return a TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def skerry(*words: str) -> list[str]:
    """Return the command line of a `skerry` command in this environment."""
    return [sys.executable, "-m", "skerry", *words]


class Children:
    """Everything that was started, in order; ended in reverse."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Start a child in its own session, its output in `<logs>/<name>.log`; return its process id."""
        with (self.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._running[name] = child
        return child.pid

    def pid(self, name: str) -> int:
        """Return a child's process id."""
        return self._running[name].pid

    def forget(self, name: str) -> None:
        """Reap a child that was ended on purpose."""
        self._running.pop(name).wait()

    def ended(self, name: str) -> bool:
        """Return whether a child has ended by itself."""
        return name in self._running and self._running[name].poll() is not None

    def check(self) -> None:
        """Raise where a child has ended by itself."""
        for name, child in self._running.items():
            if child.poll() is not None:
                raise DemoError(f"{name} ended with code {child.returncode}", hint=f"see {self.logs / name}.log")

    def stop(self) -> None:
        """End every child: ask, wait, then insist. Groups are signalled, so that grandchildren end too."""
        for sign, patience_s in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)):
            for child in reversed(self._running.values()):
                if child.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, sign)
            deadline = time.monotonic() + patience_s
            for child in self._running.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, deadline - time.monotonic()))
        self._running.clear()


def run(name: str, command: Sequence[str], logs: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        DemoError: it was refused; the message is the command's own last line.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL
    )
    log = logs / f"{name}.log"
    log.write_text(f"$ {' '.join(command)}\n{done.stdout}\n{done.stderr}")
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise DemoError(f"{name}: {last}", hint=f"see {log}")
    return done.stdout


def wait_for(what: str, ask: Callable[[], T | None], children: Children, patience_s: float, every_s: float = 0.2) -> T:
    """Ask until there is an answer; a child that dies meanwhile ends the wait.

    Raises:
        DemoError: no answer in time.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        children.check()
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(every_s)
    raise DemoError(f"no {what} after {patience_s:.0f} s", hint=f"see the logs in {children.logs}")
