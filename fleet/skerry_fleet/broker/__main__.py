"""`python -m skerry_fleet.broker --config F`: the embedded broker. SIGHUP reads certificates again, SIGTERM ends it."""

from __future__ import annotations

import argparse
import gc
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from skerry_fleet.broker import config
from skerry_fleet.broker.errors import BrokerError
from skerry_fleet.broker.hub import Hub
from skerry_fleet.broker.journal import Journal
from skerry_fleet.broker.server import Server

LINES_A_MINUTE = 600  # in the log: who hammers at the door must not fill the disk


def main(argv: Sequence[str]) -> int:
    """Run the broker; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m skerry_fleet.broker", description="The embedded MQTT broker.")
    parser.add_argument(
        "--config", required=True, type=Path, help="its settings (JSON), written by `skerry fleet serve`"
    )
    arguments = parser.parse_args(argv)
    _raise_file_limit()
    log = _Log(time.time)
    try:
        settings = config.load(arguments.config)
        server = Server(settings, Hub(settings, Journal(Path(settings.journal)), log), time.monotonic, time.time, log)
    except BrokerError as error:
        print(f"skerry: error: {error} ({error.hint})", file=sys.stderr)
        return 1
    _Signals(server)
    gc.freeze()  # what was imported stays; looking through it again and again is wasted
    gc.set_threshold(50_000, 20, 100)
    log(f"listening on {settings.host}:{server.port}")
    server.run()
    log("stopped")
    return 0


class _Signals:
    """Turns signals into something the loop can wait for."""

    def __init__(self, server: Server) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        self._actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: server.stop,
            signal.SIGINT: server.stop,
            signal.SIGHUP: server.reload,
        }
        for number in self._actions:
            signal.signal(number, lambda *_: None)
        server.watch(self._reader.fileno(), self._act)

    def _act(self) -> None:
        for number in self._reader.recv(64):
            if number in self._actions:
                self._actions[number]()


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Log:
    """Lines with the time of day on standard error, at most so many a minute."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._minute = 0
        self._lines = 0

    def __call__(self, line: str) -> None:
        now_s = self._wall()
        if int(now_s / 60) != self._minute:
            if self._lines > LINES_A_MINUTE:
                self._write(now_s, f"{self._lines - LINES_A_MINUTE} lines were left out")
            self._minute, self._lines = int(now_s / 60), 0
        self._lines += 1
        if self._lines <= LINES_A_MINUTE:
            self._write(now_s, line)

    @staticmethod
    def _write(now_s: float, line: str) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
        printable = line.encode("ascii", "backslashreplace").decode("ascii").replace("\n", "\\n").replace("\r", "\\r")
        print(f"{moment} {printable}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
