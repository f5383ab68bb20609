"""What the fleet's store takes in a second: real records of real devices, through ingest into committed rows.

The database alone: no broker, no swarm. Both databases in one run, each message once and in the batches of the fleet;
what was acknowledged is counted in the tables afterwards, through a crash of the server in the middle.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet_options import Options
from sqlalchemy.exc import DBAPIError
from sqlmodel import func, select
from tests.fleet.conftest import Bench
from tests.fleet.postgres import Server, program, running

from skerry_contracts import codec, names, topics
from skerry_contracts.device import Ack, Heartbeat, ModelHealth, ModelState, Phase, Progress, Reason, SpoolHealth
from skerry_fleet.config import FleetConfig
from skerry_fleet.fleet import open_fleet
from skerry_fleet.records import ProgressRow

BATCH = 1000
SPOOL = SpoolHealth(0, 0, 0, 0, 0)
BOOT = names.new_boot_id(1, b"\0\0\0\1")


def message(channel: str, seq: int) -> bytes:
    """Return one message of a channel."""
    if channel == "heartbeat":
        model = ModelHealth("digits", "1", "b" * 64, "v", ModelState.SERVING, 60, 0, 0, 1.0, 2.0, 30_000_000, 0.9)
        return codec.encode(Heartbeat(BOOT, seq, 0.0, 1.0, 0, (model,), SPOOL, 1, 1))
    return codec.encode(Progress(BOOT, seq, 0.0, 0, "r1", "digits", "b" * 64, Phase.DOWNLOADING, Reason.OK, "part"))


class Load:
    """Devices of one fleet that send as fast as it takes in."""

    def __init__(self, folder: Path, url: str, devices: int) -> None:
        now = time.time
        self._fleet = open_fleet(FleetConfig(root=folder, database_url=url), now, random.Random(1).randbytes)
        self.devices = [f"d{number}" for number in range(devices)]
        bench: Any = Bench(self._fleet, now)  # type: ignore[arg-type]
        bench.enrol(*self.devices)
        self.acked = 0

    def run(self, channel: str, first: int, each: int) -> tuple[float, float]:
        """Send `each` messages of every device; return messages a second, and this process's CPU µs for each."""
        sent = [
            (topics.topic("default", device, channel), message(channel, first + seq))
            for seq in range(each)
            for device in self.devices
        ]
        core, taken, used = self._fleet.core, 0.0, 0.0
        for at in range(0, len(sent), BATCH):
            for topic, payload in sent[at : at + BATCH]:
                core.accept(topic, payload, time.time())
            began, cpu = time.perf_counter(), time.process_time()
            try:
                acks = core.commit().acks
            except DBAPIError:
                continue
            taken, used = taken + time.perf_counter() - began, used + time.process_time() - cpu
            self.acked += sum(len(part.seqs) for _, ack in acks for part in codec.decode(Ack, ack).received)
        return len(sent) / max(taken, 1e-9), 1e6 * used / len(sent)

    def kept(self) -> int:
        """Return how many acknowledged messages are in the table."""
        with self._fleet.database.read() as session:
            return session.exec(select(func.count()).select_from(ProgressRow)).one()

    def close(self) -> None:
        """End the fleet."""
        self._fleet.close()


def measure(url: str, folder: Path, devices: int, each: int, server: Server | None = None) -> dict[str, float]:
    """Return the figures of one database."""
    load = Load(folder, url, devices)
    try:
        load.run("progress", 0, 1)
        load.run("heartbeat", 0, 1)
        feed, feed_us = load.run("progress", 1, each)
        beats, beats_us = load.run("heartbeat", 1, each)
        if server is not None:
            server.stop(signal.SIGQUIT)
            load.run("progress", each + 1, 1)
            server.start()
            load.run("progress", each + 2, 1)
        found = {"per_s": feed, "us": feed_us, "heartbeats_per_s": beats, "heartbeat_us": beats_us}
        return {**found, "lost": float(load.acked - load.kept())}
    finally:
        load.close()


def part(devices: int = 1000, each: int = 20) -> dict[str, float]:
    """Return all figures: keys of `benchmarks/fleet.py`."""
    with tempfile.TemporaryDirectory() as folder, running(durable=True) as server:
        postgres = measure(server.url(), Path(folder, "postgres"), devices, each, server)
        sqlite = measure("", Path(folder, "sqlite"), devices, each)
    return {
        **{f"store_sqlite_{name}": round(value, 1) for name, value in sqlite.items()},
        **{f"store_postgres_{name}": round(value, 1) for name, value in postgres.items()},
        "store_postgres_to_sqlite": round(postgres["per_s"] / sqlite["per_s"], 3),
    }


def postgres(options: Options) -> dict[str, float]:
    """Return the figures, as a part of benchmarks/fleet.py."""
    if program("initdb") is None:
        raise RuntimeError("no PostgreSQL here (apt install postgresql)")
    return part()


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--each", type=int, default=20, help="messages of each device and channel")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if program("initdb") is None:
        print("skerry: error: no PostgreSQL here (apt install postgresql)", file=sys.stderr)
        return 1
    figures = part(arguments.devices, arguments.each)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:36} {value:12,.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
