"""A real agent whose wall clock is changed while it runs (benchmarks/agent.py, part `clock`): does any inference fail?

The daemon and the children that check signatures and dates see the clock that a file says (libfaketime): on a device it
is the machine's that is wrong. A worker starts with no environment, and its sandbox lets it read no such file, so it
keeps the true clock; it asks for none but monotonic time. Monotonic time is everybody's own, as on a device.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.agent_clock_parts import DAY_S, PATIENCE_S, Device, Fleet, Program, Tally, environment
from tests.agent.fleet_site import Site

from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings

YEAR_2100_S = 4_102_444_800
MOMENTS = ("boot", "offer", "downloading", "trial", "observing")
HEARTBEAT_S = 5.0  # long beside what the child that checks dates takes to start
CONNECTING_S = 1.0  # of the time to the next heartbeat: what a new session takes by itself


def offsets_s() -> dict[str, int]:
    """Return how far off the clocks are, in seconds."""
    now_s = int(time.time())
    return {"1970": DAY_S - now_s, "2100": YEAR_2100_S - now_s, "an hour back": -3600, "sixty days on": 60 * DAY_S}


def within(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    """Return whether a condition came true."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


class Course:
    """One agent through one wrong clock after the other, each at one moment of an update."""

    def __init__(self, root: Path, site: Site, fleet: Fleet, device: Device, heartbeat_s: float, tally: Tally) -> None:
        self._root, self._site, self._fleet, self._device = root, site, fleet, device
        self._heartbeat_s, self._tally, self._number = heartbeat_s, tally, 0

    def begin(self) -> None:
        """Start, and take up a first bundle.

        Raises:
            RuntimeError: it does not come to serve.
        """
        self._device.start()
        version = self._release()
        if not within(lambda: self._committed(version)):
            raise RuntimeError("a first bundle never came to serve")

    def wrong(self, moment: str, offset_s: int) -> None:
        """Let the clock be wrong for two heartbeats from a moment on, then right, and wait until the update is over."""
        device, boots = self._device, moment == "boot"
        if boots:
            device.stop()
            device.turn(offset_s)
            device.start()
        if not within(device.answers):
            self._tally.interruptions += 1
            print("clock: no model serves after a boot", file=sys.stderr)
        program = Program(device.socket, self._tally)
        program.start()
        if moment == "offer":
            device.turn(offset_s)
        version = self._release()
        if moment not in ("boot", "offer"):
            within(lambda: device.model().get("stage") == moment or self._committed(version))
            device.turn(offset_s)
        time.sleep(2 * self._heartbeat_s)
        if not self._committed(version):
            polls = self._right_again(version)
            self._tally.polls = max(self._tally.polls, polls)
            print(f"clock: {moment}: the update goes on after {polls} heartbeats", file=sys.stderr)
        device.turn(0)
        self._tally.updates += 1
        if not within(lambda: self._committed(version)):
            self._tally.stuck += 1
            print(f"clock: {moment}: never taken up: {device.model()}", file=sys.stderr)
        time.sleep(self._heartbeat_s)  # one more, so that the next change is seen as one
        program.end()

    def _right_again(self, version: str) -> int:
        """Set the clock right; return how many heartbeats go by until the update moves."""
        device, seen, right, begun_s = self._device, len(self._site.seen), self._fleet.right, time.monotonic()
        was_online = device.online()
        device.turn(0)

        def moves() -> bool:
            model = device.model()
            under_way = model.get("stage", "idle") != "idle" and "trouble" not in model
            return len(self._site.seen) > seen or under_way or self._committed(version)

        if was_online:
            within(moves)
            return self._fleet.right - right
        within(device.online)  # its heartbeats reach nobody before
        return max(0, math.ceil((time.monotonic() - begun_s - CONNECTING_S) / self._heartbeat_s))

    def _release(self) -> str:
        self._number += 1
        return self._fleet.release(self._root / f"v{self._number}", self._number)

    def _committed(self, version: str) -> bool:
        model = self._device.model()
        return model.get("stage") == "idle" and model.get("active", {}).get("version") == version


@contextlib.contextmanager
def course(root: Path, heartbeat_s: float) -> Iterator[tuple[Course, Tally]]:
    """Give an agent of a fleet of its own, which serves a model."""
    environment(root)  # before anything is started
    tally, site = Tally(), Site(root / "fleet", time.time())
    with contextlib.ExitStack() as ending:
        ending.callback(site.close)
        broker = BrokerProcess(BrokerSettings(root / "broker", port=0, kind="embedded"), site.office.authority)
        broker.start()
        ending.callback(broker.stop)
        site.broker_port = broker.port
        fleet = Fleet(site, broker, tally)
        ending.callback(fleet.close)
        device = Device(root / "device", site.url, str(site.token), heartbeat_s, 1.5 * heartbeat_s)
        ending.callback(device.stop)
        found = Course(root, site, fleet, device, heartbeat_s, tally)
        found.begin()
        yield found, tally


def measure(root: Path, heartbeat_s: float = HEARTBEAT_S) -> Tally:
    """Return what came of each wrong clock at each moment.

    Raises:
        RuntimeError: it cannot be measured here.
    """
    with course(root, heartbeat_s) as (found, tally):
        for moment in MOMENTS:
            for name, offset_s in offsets_s().items():
                print(f"clock: {name}, {moment}", file=sys.stderr, flush=True)
                found.wrong(moment, offset_s)
    if not tally.misdated:
        raise RuntimeError("no heartbeat had a wrong date: the clock did not move")
    return tally
