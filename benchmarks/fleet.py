"""Figures of the fleet manager in one run; with --json the last line is `{"figures": {KEY: number}}`.

    python benchmarks/fleet.py [--json] [--only PART ...] [--devices N]

    connect   connections, connect_seconds, bytes_per_connection: devices (`skerry sim swarm`, no TLS) on broker shards,
              each with will, subscription and presence; the bytes are the brokers' own
    ingest    ingest_sqlite_per_s, ingest_postgres_per_s: messages that devices keep until they are acknowledged, eight
              of a device at a time, from the first sent to the last acknowledged, on either database (PostgreSQL with
              a server of its own that waits for the disk); ingest_lost: acknowledged, or made, and not in the
              databases after a broker and the manager were killed (ingest_kills) under load
    samples   samples_acked_per_s: the same with one sample of a device at a time, so one acknowledgement for each
    presence  presence_5k_s, presence_15k_s: so many sockets of three shards drop at once; until the database has one
              incident that counts all of them (..._incidents: how many there are)
    wave      wave_50k_s: one wave to all devices, from the order to the last of them confirmed by what it reported;
              rollout_50k_s: a canary and four waves, without soak (with fewer --devices the figures are theirs)
    exposure  exposed_max: the most of 1000 devices that ever tried a bad release, by their own count, over --seeds
              releases that fail, degrade or silence devices, each with a plan of its own and a budget of 10;
              rollback_s: the longest from the first failure until all were back and the fleet knew it (rollback_..._s
              of each kind; not_rolled_back must be 0)
    restart   restart_s: the manager is stopped and started again while messages come, until the next is
              acknowledged; restart_lost
    postgres  store_postgres_per_s, store_sqlite_per_s: messages that the store alone commits, without broker and
              swarm, on a PostgreSQL of its own and on SQLite; ..._us: processor time of this process for each;
              store_postgres_lost: acknowledged, and not in the table after the server crashed
    gate      aa_false_aborts: the share of harmless rollouts that the gate takes back; harm_detected: that of harmful
              ones taken back before their second wave ends, the worse of two kinds: every device fails three
              predictions in a hundred more (harm_more_detected), three devices in a hundred break
              (harm_break_detected)
    lists     list_p99_ms: a page of 50 of the device list, asked for 200 times a second whether answers come or not,
              while the swarm sends 5000 messages a second (list_messages_per_s: how many came in)
    sse       sse_1000_ms: one event until the last of 1000 open event streams has it, the slower of the API's and the
              dashboard's (median; sse_1000_worst_ms: the worst)
    paint     dashboard_paint_s: headless Chromium opens overview, device list and a rollout of a full fleet and has
              painted everything (largest contentful paint, nothing cached); the slowest page's median

ingest and samples give the processor time for one message, wave that for one device (..._manager_cpu_us, _brokers_,
_swarm_): on a machine that does other work only that says something. Swarm, brokers and manager share the machine. A
part that cannot run here says so and leaves its keys out.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks.fleet_options import Options

from skerry_fleet.errors import FleetError
from skerry_simulators.errors import SimulatorError

# part: module with a function of the part's name
PARTS = {
    "connect": "fleet_load",
    "ingest": "fleet_load",
    "samples": "fleet_load",
    "presence": "fleet_load",
    "wave": "fleet_waves",
    "exposure": "fleet_waves",
    "restart": "fleet_load",
    "postgres": "fleet_postgres",
    "gate": "fleet_gate",
    "api": "fleet_api",
    "lists": "fleet_people",
    "sse": "fleet_people",
    "paint": "fleet_people",
}
# key: (must reach, aims at); all at most, but for those in AT_LEAST
GOALS: dict[str, tuple[float, float]] = {
    "connections": (50_000, 100_000),
    "connect_seconds": (20, 30),
    "bytes_per_connection": (4096, 4096),
    "ingest_sqlite_per_s": (12_000, 25_000),
    "ingest_postgres_per_s": (12_000, 25_000),
    "ingest_lost": (0, 0),
    "samples_acked_per_s": (4000, 8000),
    "presence_5k_s": (2, 1),
    "presence_15k_s": (5, 3),
    "presence_5k_incidents": (1, 1),
    "presence_15k_incidents": (1, 1),
    "wave_50k_s": (15, 8),
    "rollout_50k_s": (120, 60),
    "exposed_max": (10, 10),
    "rollback_s": (60, 20),
    "restart_s": (10, 3),
    "restart_lost": (0, 0),
    "aa_false_aborts": (0.05, 0.05),
    "harm_detected": (0.95, 0.99),
    "list_p99_ms": (60, 20),
    "sse_1000_ms": (250, 80),
    "dashboard_paint_s": (2, 1),
    "api_server_errors": (0, 0),
    "api_findings": (0, 0),
}
AT_LEAST = {"connections", "ingest_sqlite_per_s", "ingest_postgres_per_s", "samples_acked_per_s", "harm_detected"}


def run(part: str, options: Options) -> dict[str, float]:
    """Return a part's figures; none where it cannot be measured here, which is said."""
    print(f"{part} ...", file=sys.stderr, flush=True)
    try:
        module = importlib.import_module(f"benchmarks.{PARTS[part]}")
        measure: Callable[[Options], dict[str, float]] = getattr(module, part)
        return measure(options)
    except (FleetError, SimulatorError, ImportError, OSError, subprocess.SubprocessError, RuntimeError) as error:
        hint = getattr(error, "hint", "")
        words = f"{error} ({hint})" if hint else f"{error}"
        print(f"{part}: cannot be measured here: {words}", file=sys.stderr, flush=True)
        return {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line; progress on stderr")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="only these parts")
    for field in dataclasses.fields(Options):
        words = f"{field.metadata['help']} (default {field.default})"
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default, help=words)
    arguments = parser.parse_args()
    options = Options(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Options)})
    found: dict[str, float] = {}
    for part in arguments.only or PARTS:
        found |= run(part, options)
    if not arguments.json:
        for key, value in found.items():
            goal, way = GOALS.get(key), "at least" if key in AT_LEAST else "at most"
            words = f"   {way} {goal[0]:g}, aim {goal[1]:g}" if goal is not None else ""
            print(f"{key:<26} {value:>10.4g}{words}")
    print(json.dumps({"figures": {key: round(value, 4) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
