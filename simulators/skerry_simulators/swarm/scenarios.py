"""What a swarm goes through: each scenario drives devices and fleet, waits for what must follow, and returns figures.

Figures that the fleet gives are read from its database, where alone a message counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from skerry_contracts import names
from skerry_simulators.errors import SimulatorError
from skerry_simulators.swarm import tls
from skerry_simulators.swarm.ground import Ground
from skerry_simulators.swarm.team import Team, most_connections

Figures = dict[str, float]
Say = Callable[[str], None]
BACK_S = 2.0  # how long after a loss a device comes back


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a swarm. `rate` is samples a second; 0 shards or processes: as many as the devices need.

    Every device reports each `beats_s` (0: only when something changes, which is soon called silence). `database_url`:
    the fleet's database, empty, where it is not SQLite.
    """

    devices: int = 1000
    shards: int = 0
    processes: int = 0
    seconds: float = 20.0
    rate: float = 0.0
    tls: bool = False
    limit_s: float = 300.0
    beats_s: float = 0.0
    database_url: str = ""

    @property
    def all_shards(self) -> int:
        """How many brokers: none may come near its limit of open files."""
        return self.shards or -(-self.devices // (most_connections() * 9 // 10))

    @property
    def all_processes(self) -> int:
        """How many processes play devices."""
        return self.processes or -(-self.devices // (most_connections() * 9 // 10))


@dataclasses.dataclass(slots=True)
class Stage:
    """A running fleet, a swarm that is not connected yet, and what was asked."""

    ground: Ground
    team: Team
    wish: Wish
    say: Say

    def beat(self, every_s: float = 0.0) -> None:
        """Let devices report so often; without a number, as often as was asked for all the time."""
        self.team.order("beats", every_s=every_s or self.wish.beats_s)

    def wait(self, what: str, statement: str, least: int, *values: object, limit_s: float | None = None) -> float:
        """Wait until a count in the fleet's database is at least so high; return the time of day when it was.

        Raises:
            SimulatorError: it is not within the limit.
        """
        limit_s = self.wish.limit_s if limit_s is None else limit_s
        deadline_s = time.monotonic() + limit_s
        while (found := self.ground.count(statement, *values)) < least:
            if time.monotonic() > deadline_s:
                raise SimulatorError(f"not within {limit_s:g} s: {what} ({found:,} of {least:,})")
            self.say(f"{what}: {found:,} of {least:,}")
            time.sleep(0.05)
        return time.time()


ONLINE = "SELECT count(*) FROM device_state WHERE online AND name LIKE 'swarm-%'"
OFFLINE = "SELECT count(*) FROM device_state WHERE NOT online AND name LIKE 'swarm-%'"
SAMPLES = "SELECT count(*) FROM sample"
PROGRESS = "SELECT count(*) FROM progress"
INCIDENTS = "SELECT count(*) FROM incident WHERE kind = 'mass-offline' AND state <> 'resolved'"
AWAY = "SELECT coalesce(max(devices), 0) FROM incident WHERE kind = 'mass-offline' AND state <> 'resolved'"


@contextlib.contextmanager
def stage(folder: Path, wish: Wish, say: Say, **settings: object) -> Iterator[Stage]:
    """Give a fleet in `folder` with everybody admitted, and a swarm; all of it ends with the block."""
    ground = Ground(folder / "fleet", wish.all_shards, settings, wish.database_url)
    say(f"{wish.devices:,} devices are admitted to a fleet of {wish.all_shards} brokers")
    if not wish.tls:
        ground.admit(wish.devices)
    boot = names.new_boot_id(1, secrets.token_bytes(4))
    with ground.running():
        credentials, ports = "", ground.ports
        if wish.tls:
            credentials, ports = tls.enrol(ground, folder / "keys", wish.devices, say)
        with Team(wish.devices, wish.all_processes, ports, boot, credentials) as team:
            yield Stage(ground, team, wish, say)


def connect(on: Stage) -> Figures:
    """Let everybody connect: will, subscription, presence and a first report."""
    before = _resident_bytes(on.ground.brokers())
    began_s = time.time()
    on.team.order("connect", back_s=BACK_S)
    found = on.team.until(lambda now: now["ready"] == on.wish.devices, on.wish.limit_s, "all are connected", on.say)
    after = _resident_bytes(on.ground.brokers())
    on.wait("known to be online", ONLINE, on.wish.devices)
    grown = sum(each["rss_bytes"] for each in [found]) - sum(each["rss_bytes"] for each in on.team.before)
    on.beat()
    return {
        "connections": found["ready"],
        "connect_seconds": found["last_ready_s"] - began_s,
        "bytes_per_connection": (after - before) / found["ready"],
        "swarm_bytes_per_device": grown / found["ready"],
    }


def steady(on: Stage) -> Figures:
    """A quiet while: everybody reports now and then, and samples come at `rate` (by default one a device and ten
    seconds).
    """
    seconds, rate = on.wish.seconds, on.wish.rate or on.wish.devices / 10
    on.beat(max(seconds, 10.0))
    total = int(rate * seconds)
    found = samples(on, total, burst=1, rate=rate)
    on.beat()
    return {**found, "heartbeats": on.team.counts["beats"]}


def samples(on: Stage, total: int, *, burst: int, rate: float = 0.0, window: int = 8000) -> Figures:
    """Let devices make so many samples, `burst` at a time, and wait until each is acknowledged and in the database."""
    known, before, taken = on.ground.count(SAMPLES), on.team.look(), on.ground.processor_s()
    began_s, processes = time.time(), on.wish.all_processes
    on.team.share("flow", total, total=Team, rate=rate / processes, burst=burst, window=max(window // processes, burst))
    found = on.team.until(
        lambda now: now["made"] - before["made"] == total and not now["pending"],
        on.wish.limit_s + (total / rate if rate else 0),
        "all are acknowledged",
        on.say,
    )
    manager_s, brokers_s = (now - then for now, then in zip(on.ground.processor_s(), taken, strict=True))
    stored = on.ground.count(SAMPLES) - known
    return {
        "samples": total,
        "samples_per_s": total / (found["last_acked_s"] - began_s),
        "samples_again": found["again"] - before["again"],
        "lost": total - stored,
        "manager_cpu_us": manager_s / total * 1e6,
        "brokers_cpu_us": brokers_s / total * 1e6,
        "swarm_cpu_us": (found["cpu_s"] - before["cpu_s"]) / total * 1e6,
    }


def drop(on: Stage, count: int = 0) -> Figures:
    """Cut the sockets of half of the devices (or `count`): the brokers say their wills, and the fleet notes it. Where
    they are many that is an incident, one for all shards, which says how many are away.
    """
    count = count or on.wish.devices // 2
    before, many = on.ground.count(OFFLINE), count >= max(50 * on.wish.all_shards, on.wish.devices // 4)
    on.team.order("connect", back_s=0.0)
    began_s = time.time()
    on.team.share("drop", count, count=Team)
    told_s = on.wait("in one incident", AWAY, count) - began_s if many else 0.0
    seconds = on.wait("known to be offline", OFFLINE, before + count) - began_s
    incidents = on.ground.count(INCIDENTS)
    on.team.order("connect", back_s=BACK_S)
    on.team.until(lambda now: now["ready"] == on.wish.devices, on.wish.limit_s, "all are back", on.say)
    on.wait("online again", ONLINE, on.wish.devices)
    if many:
        over = "SELECT count(*) FROM alert WHERE kind = 'mass-offline' AND state = 'resolved'"
        on.wait("over by itself", over, on.wish.all_shards)
    return {"dropped": count, "offline_s": seconds, **({"told_s": told_s, "incidents": incidents} if many else {})}


def silence(on: Stage) -> Figures:
    """A tenth keeps its sockets and says nothing: the fleet must notice by itself, and that they speak again."""
    count = max(1, on.wish.devices // 10)
    on.beat(2.0)
    on.team.share("silence", count, count=Team)
    began_s = time.time()
    silent = "SELECT count(*) FROM device_state WHERE silent"
    seconds = on.wait("known to be silent", silent, count) - began_s
    others = on.ground.count(silent) - count
    on.team.share("silence", 0, count=0)
    on.wait("heard again", "SELECT count(*) FROM device_state WHERE NOT silent AND online", on.wish.devices)
    on.beat()
    return {"silenced": count, "silent_s": seconds, "wrongly_silent": others}


def flap(on: Stage) -> Figures:
    """A tenth loses its connection every second while samples come: nothing may be lost, and all are online after."""
    count = max(1, on.wish.devices // 10)
    on.team.share("flap", count, count=Team, every_s=1.0)
    rate = on.wish.rate or on.wish.devices / 5
    found = samples(on, int(rate * on.wish.seconds), burst=1, rate=rate)
    on.team.share("flap", 0, count=0, every_s=1.0)
    on.team.order("connect")
    on.team.until(lambda now: now["ready"] == on.wish.devices, on.wish.limit_s, "all are back", on.say)
    on.wait("online again", ONLINE, on.wish.devices)
    return {**found, "flapping": count}


def kill(on: Stage) -> Figures:
    """Samples through kills: a broker, and the manager with all of its brokers, without a word."""
    rate = on.wish.rate or on.wish.devices / 2
    total = int(rate * on.wish.seconds)
    known = on.ground.count(SAMPLES)
    on.team.share("flow", total, total=Team, rate=rate / on.wish.all_processes, burst=4, window=20_000)
    kills = 0
    for strike in (on.ground.kill_broker, on.ground.kill):
        time.sleep(on.wish.seconds / 3)
        strike()
        kills += 1
        if strike == on.ground.kill:
            on.ground.start()
    found = on.team.until(
        lambda now: now["made"] >= total and not now["pending"], on.wish.limit_s, "all are acknowledged", on.say
    )
    stored = on.ground.count(SAMPLES) - known
    return {"samples": total, "kills": kills, "samples_again": found["again"], "lost": total - stored}


def _resident_bytes(pids: list[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096 for pid in pids)
