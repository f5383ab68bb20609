"""What a swarm stands on: a real fleet manager with its brokers, started as a user starts it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skerry_contracts.bundle import Manifest
from skerry_contracts.container import write_container
from skerry_fleet import swarm
from skerry_fleet.broker.mosquitto import SWARM_HOST
from skerry_fleet.client import FleetClient
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import FleetError
from skerry_fleet.fleet import open_fleet
from skerry_fleet.sql.dialect import Dialect, open_dialect
from skerry_simulators.catalogue import HARDWARE, MODEL, TENANT, Kind, make_bundle
from skerry_simulators.chaos.mortal import mortal
from skerry_simulators.errors import SimulatorError

START_S = 60.0


class Ground:
    """One fleet. `settings` go on the command line of `skerry fleet serve`; `database_url` does not, for it may hold a
    password.
    """

    def __init__(self, root: Path, shards: int, settings: dict[str, Any], database_url: str = "") -> None:
        self.root = root
        self.shards = shards
        self.url = ""
        self.new = 0
        self._first = _free_ports(shards)
        self._settings = settings
        self._database_url = database_url
        self._dialect: Dialect | None = None
        self._released = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log = root.with_name(f"{root.name}.log")

    @property
    def ports(self) -> list[int]:
        """The swarm's port on each shard."""
        return [self._first + shard for shard in range(self.shards)]

    @property
    def pid(self) -> int:
        """The fleet manager's process."""
        if self._process is None:
            raise SimulatorError("the fleet does not run")
        return self._process.pid

    def admit(self, devices: int) -> None:
        """Let simulated devices in, while the fleet does not run."""
        try:
            config = FleetConfig(root=self.root, shards=self.shards, database_url=self._database_url)
            fleet = open_fleet(config, time.time, secrets.token_bytes)
            try:
                self.new = swarm.admit(fleet.database, TENANT, devices, HARDWARE, time.time(), self.shards)
            finally:
                fleet.close()
        except FleetError as error:
            raise SimulatorError(str(error), hint=error.hint) from error

    def start(self) -> None:
        """Start the fleet, and wait until it is at its brokers."""
        words = [sys.executable, "-m", "skerry", "fleet", "serve", "--root", str(self.root), "--broker", "mosquitto"]
        words += ["--port", self.url.rsplit(":", 1)[-1] or "0", "--shards", str(self.shards)]
        words += ["--swarm-port", str(self._first)]
        for name, value in self._settings.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        with self._log.open("ab") as log:
            environment = {**os.environ, "SKERRY_FLEET_DATABASE_URL": self._database_url}
            self._process = subprocess.Popen(mortal(words), stdout=subprocess.PIPE, stderr=log, env=environment)
        lines: list[str] = []
        while not any(line.startswith("swarm ") for line in lines):
            line = self._process.stdout.readline().decode() if self._process.stdout is not None else ""
            if not line:
                last = (self._log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
                self.stop()
                raise SimulatorError(f"the fleet did not start: {last}", hint=f"see {self._log}")
            lines.append(line)
        self.url = lines[0].split()[1]
        self.ready()

    def ready(self) -> None:
        """Wait until the fleet answers and has its brokers."""
        deadline_s = time.monotonic() + START_S
        while True:
            client = FleetClient(self.url, "none")
            with contextlib.closing(client), contextlib.suppress(FleetError):
                client.call("GET", "/readyz")
                return
            if time.monotonic() > deadline_s:
                raise SimulatorError("the fleet is not ready", hint=f"see {self._log}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def running(self) -> Iterator[Ground]:
        """Run the fleet for the time of a block."""
        try:
            self.start()
            yield self
        finally:
            self.stop()
            if self._dialect is not None:
                self._dialect.close()

    def stop(self) -> None:
        """End the fleet in an orderly way."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
            if self._process is not None and self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def kill(self) -> None:
        """End the fleet manager without a word; its brokers end with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def brokers(self) -> list[int]:
        """Return the process ids of the brokers: the manager's children."""
        found = []
        for child in Path(f"/proc/{self.pid}/task").glob("*/children"):
            found += [int(pid) for pid in child.read_text("ascii").split()]
        return found

    def processor_s(self) -> tuple[float, float]:
        """Return the processor time that the manager and its brokers have taken so far."""
        return _processor_s(self.pid), sum(map(_processor_s, self.brokers()))

    def kill_broker(self) -> None:
        """End one broker without a word; the manager starts it again."""
        for pid in self.brokers()[:1]:
            os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def client(self) -> Iterator[FleetClient]:
        """Give the fleet's API, with the admin's key."""
        client = FleetClient(self.url, (self.root / "admin.key").read_text("ascii").strip())
        try:
            yield client
        except FleetError as error:
            raise SimulatorError(f"the fleet refused: {error}", hint=error.hint) from error
        finally:
            client.close()

    def publish(self, client: FleetClient) -> Manifest:
        """Upload the model's next release, which publishes it; return its manifest, whose digest is the bundle's id."""
        release = self._released = self._released + 1
        made = make_bundle(f"{release}.0.0", release, Kind.GOOD, random.Random(release))
        file = io.BytesIO()
        write_container(file, made.manifest_bytes, list(made.blobs.items()))
        if release == 1:
            client.call("POST", "/api/v1/models", json={"name": MODEL})
        client.call("POST", f"/api/v1/models/{MODEL}/bundles", content=file.getvalue())
        return made.manifest

    def count(self, statement: str, *values: object) -> int:
        """Return the one number that a query of the fleet's database gives; values (`?`) with SQLite alone."""
        if self._database_url:
            self._dialect = self._dialect or open_dialect(self._database_url)
            with self._dialect.reader.connect() as connection:
                told = connection.execution_options(no_parameters=True)  # a % of the statement is its own
                return int(told.exec_driver_sql(statement).scalar_one())
        with contextlib.closing(
            sqlite3.connect(f"file:{self.root / 'fleet.db'}?mode=ro", uri=True, timeout=30)
        ) as base:
            return int(base.execute(statement, values).fetchone()[0])


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_ports(count: int) -> int:
    """Return the first of so many free ports in a row."""
    for first in range(20_000 + os.getpid() % 5000, 32_000, 100):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    sock = stack.enter_context(socket.socket())
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind((SWARM_HOST, port))
            except OSError:
                continue
            return first
    raise SimulatorError("no free ports", hint="end what listens on them")
