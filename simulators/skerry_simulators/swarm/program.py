"""One process of a swarm: orders on standard input, one JSON object a line; counters on standard output when asked.

Every order returns at once; `stat` says how far things have come. The process ends with its input.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from skerry_contracts.device import Phase, Reason
from skerry_simulators.swarm.crowd import Crowd
from skerry_simulators.swarm.mind import AWAY, READY, RESEND_S, Device, Mind, Watched
from skerry_simulators.swarm.words import Behaviour

TURN_S = 0.02


class Program:
    """The loop of one process, and what it was ordered to do."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.devices = [Device(number) for number in range(orders["first"], orders["first"] + orders["count"])]
        self.mind = Mind(orders["boot"].encode(), self._say, time.time, {})
        self.crowd = Crowd(self.devices, orders["ports"], self.mind, orders["credentials"], orders["opening"])
        self._round = itertools.cycle(self.devices)
        self._beat_every_s = 0.0
        self._beats_from = time.monotonic()
        self._beaten = 0
        self._flow: dict[str, Any] | None = None
        self._flapping: tuple[list[Device], float] = ([], 0.0)
        self._flapped_s = self._resent_s = time.monotonic()
        self.running = True

    def _say(self, device: Device, data: bytes) -> None:
        self.crowd.say(device, data)

    def obey(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """Take in one order; the answer, where one is wanted."""
        what = order.pop("do")
        if what == "stat":
            return self.stat()
        getattr(self, f"do_{what}")(**order)
        return None

    def do_connect(self, back_s: float | None = None) -> None:
        """Let everybody connect who is away; `back_s`: and come back so long after a loss from now on."""
        if back_s is not None:
            self.crowd.back_s = back_s
        self.crowd.connect(self.devices)

    def do_drop(self, count: int) -> None:
        """Drop the sockets of the first `count` devices."""
        self.crowd.drop(self.devices[:count])

    def do_silence(self, count: int) -> None:
        """Let the first `count` devices keep their sockets and say nothing any more; 0: all speak again."""
        for index, device in enumerate(self.devices):
            device.silent = index < count

    def do_flap(self, count: int, every_s: float) -> None:
        """Let the first `count` devices lose and make their connection again and again; 0 of them ends it."""
        self._flapping = (self.devices[:count], every_s)

    def do_drift(self, count: int) -> None:
        """Let the first `count` devices report a drift alarm; 0: none."""
        for index, device in enumerate(self.devices):
            device.drifts = index < count

    def do_beats(self, every_s: float) -> None:
        """Let every device report its health so often, spread over time; 0: not by itself."""
        self._beat_every_s, self._beats_from, self._beaten = every_s, time.monotonic(), 0

    def do_flow(self, rate: float, burst: int, total: int, window: int) -> None:
        """Make `total` samples, `rate` a second (0: as fast as they are acknowledged), `burst` a device at a time, and
        never more than `window` that are not acknowledged.
        """
        self._flow = {
            "rate": rate, "burst": burst, "left": total, "window": window, "from": time.monotonic(), "made": 0
        }  # fmt: skip

    def do_behave(self, told: str, bundles: list[dict[str, Any]]) -> None:
        """Say how bundles do (see `Behaviour`), and which steps of an update are told: "all" or "last"."""
        self.mind.told = told
        for each in bundles:
            known = {**each, "ends": Phase(each["ends"]), "reason": Reason(each["reason"])}
            self.mind.behaviours[each["bundle"]] = Behaviour(**known)

    def do_watch(self, bundle: str) -> None:
        """Count who tries a bundle from now on."""
        self.mind.watched = Watched(bundle)

    def do_leave(self) -> None:
        """Say goodbye and end."""
        self.crowd.leave()
        self.running = False

    def stat(self) -> dict[str, Any]:
        """Return the counters."""
        crowd, mind = self.crowd, self.mind
        pending = sum(len(device.pending) for device in self.devices if device.pending)
        processor = os.times()
        bundles: dict[str, int] = {}
        for device in self.devices:
            bundles[device.bundle] = bundles.get(device.bundle, 0) + 1
        return {
            **mind.counts,
            "ready": crowd.ready,
            "lost": crowd.lost,
            "refused": crowd.refused,
            "pending": pending,
            "left": self._flow["left"] if self._flow is not None else 0,
            "last_ready_s": crowd.last_ready_s,
            "last_acked_s": mind.last_acked_s,
            "last_adopted_s": mind.last_adopted_s,
            "exposed": len(mind.watched.exposed),
            "first_failed_s": mind.watched.first_failed_s,
            "last_back_s": mind.watched.last_back_s,
            "cpu_s": processor.user + processor.system,
            "rss_bytes": _resident_bytes(),
            "bundles": bundles,
        }

    def turn(self) -> bool:
        """Do one turn; return whether there are orders to read."""
        asked = self.crowd.turn(0.0 if self._flow_now() else TURN_S)
        now_s = time.monotonic()
        if self._beat_every_s:
            due = int((now_s - self._beats_from) / self._beat_every_s * len(self.devices)) - self._beaten
            for device in itertools.islice(self._round, min(due, 2000)):
                self.mind.beat(device)
                self._beaten += 1
        if now_s - self._resent_s > RESEND_S:
            self._resent_s = now_s
            for device in self.devices:
                if device.pending and device.state == READY:
                    self.mind.resend_old(device)
        flapping, every_s = self._flapping
        if flapping and now_s - self._flapped_s > every_s / 2:
            self._flapped_s = now_s
            away = [device for device in flapping if device.state == AWAY]
            self.crowd.drop(device for device in flapping if device.state == READY)
            self.crowd.connect(away)
        return bool(asked)

    def _flow_now(self) -> bool:
        """Send what of the flow is due; return whether more would be due at once."""
        flow = self._flow
        if flow is None or flow["left"] <= 0:
            return False
        waiting = self.mind.counts["made"] - self.mind.counts["acked"]
        most = min(flow["left"], flow["window"] - waiting, 2000)
        if flow["rate"]:
            most = min(most, int((time.monotonic() - flow["from"]) * flow["rate"]) - flow["made"])
        done, tried = 0, 0
        while done < most and tried < len(self.devices):
            device = next(self._round)
            tried += 1
            if device.state != READY or device.silent:
                continue
            for _ in range(min(flow["burst"], most - done)):
                self.mind.keep(device)
                done += 1
        flow["left"] -= done
        flow["made"] += done
        return done > 0 and not flow["rate"]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run until the input ends."""
    program = Program(json.loads(sys.stdin.buffer.readline()))
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    program.crowd.watch(0)
    print(json.dumps(program.stat()), flush=True)
    waiting = b""
    while program.running:
        if not program.turn():
            continue
        data = os.read(0, 65536)
        if not data:
            program.crowd.leave()
            break
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            answer = program.obey(json.loads(line))
            if answer is not None:
                print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
