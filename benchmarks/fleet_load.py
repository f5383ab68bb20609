"""A swarm's load on brokers and manager (benchmarks/fleet.py): connections, messages, presence, a restart."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet_options import Options
from tests.fleet.postgres import program, running

from skerry_simulators.swarm import scenarios
from skerry_simulators.swarm.scenarios import Stage, Wish

TALKERS = 3000  # devices that send; the rate does not hang on their number
SAY_EVERY_S = 5.0


@contextlib.contextmanager
def stage(wish: Wish) -> Iterator[Stage]:
    """Give a fleet and a swarm in a folder that goes with them."""
    said_s = time.monotonic()

    def say(words: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > SAY_EVERY_S:
            said_s = time.monotonic()
            print(f"  {words}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="skerry-bench-", ignore_cleanup_errors=True) as made:
        with scenarios.stage(Path(made), wish, say, silent_after_s=3600) as on:
            yield on


def connect(options: Options) -> dict[str, float]:
    """Return how many connections stood, how long they took, and what one costs the brokers."""
    with stage(Wish(options.devices, limit_s=options.limit_s)) as on:
        return scenarios.connect(on)


def ingest(options: Options) -> dict[str, float]:
    """Return how many messages a second are committed, and how many are lost where broker and manager are killed."""
    found = _ingest(options, "sqlite")
    if program("initdb") is None:
        print("  no PostgreSQL here (apt install postgresql): SQLite alone", file=sys.stderr)
        return found
    with running(durable=True) as server:
        other = _ingest(options, "postgres", server.url())
    return {**found, **other, "ingest_lost": found["ingest_lost"] + other["ingest_lost"]}


def _ingest(options: Options, name: str, url: str = "") -> dict[str, float]:
    wish = Wish(TALKERS, shards=2, processes=1, limit_s=options.limit_s, rate=6000, seconds=15, database_url=url)
    with stage(wish) as on:
        scenarios.connect(on)
        found = scenarios.samples(on, options.messages, burst=8, window=16_000)
        killed = scenarios.kill(on)
    return {
        f"ingest_{name}_per_s": found["samples_per_s"],
        "ingest_lost": found["lost"] + killed["lost"],
        "ingest_kills": killed["kills"],
        **_processor(f"ingest_{name}", found),
    }


def samples(options: Options) -> dict[str, float]:
    """Return how many samples a second are committed and acknowledged one by one."""
    with stage(Wish(TALKERS, shards=2, processes=1, limit_s=options.limit_s)) as on:
        scenarios.connect(on)
        found = scenarios.samples(on, options.messages // 4, burst=1, window=TALKERS)
    return {"samples_acked_per_s": found["samples_per_s"], **_processor("samples", found)}


def _processor(part: str, found: dict[str, float]) -> dict[str, float]:
    """Return the processor time for one message, which other work on the machine changes little."""
    return {f"{part}_{name}": value for name, value in found.items() if name.endswith("_cpu_us")}


def presence(options: Options) -> dict[str, float]:
    """Return how soon one incident says how many devices are gone, and how many incidents there are."""
    found: dict[str, float] = {}
    for count in (5000, 15_000):  # each on a fleet of its own: a second loss within minutes is no new incident
        with stage(Wish(15_000, shards=3, limit_s=options.limit_s)) as on:
            scenarios.connect(on)
            dropped = scenarios.drop(on, count)
        found[f"presence_{count // 1000}k_s"] = dropped["told_s"]
        found[f"presence_{count // 1000}k_incidents"] = dropped["incidents"]
    return found


def restart(options: Options) -> dict[str, float]:
    """Return how long a restart under load keeps messages waiting, and how many are lost."""
    rate, seconds = 3000, 15
    total = rate * seconds
    with stage(Wish(TALKERS, shards=2, processes=1, limit_s=options.limit_s)) as on:
        scenarios.connect(on)
        on.team.order("flow", rate=rate, burst=2, total=total, window=20_000)
        time.sleep(seconds / 3)
        began_s = time.time()
        on.ground.stop()
        acked = on.team.look()["acked"]
        on.ground.start()
        on.team.until(lambda now: now["acked"] > acked, options.limit_s, "messages are taken again", on.say)
        took_s = time.time() - began_s
        on.team.until(
            lambda now: now["made"] >= total and not now["pending"], options.limit_s, "all are acknowledged", on.say
        )
        stored = on.ground.count(scenarios.SAMPLES)
    return {"restart_s": took_s, "restart_lost": total - stored}
