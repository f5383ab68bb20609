"""Deals the blows of a plan to a running site, and takes back those whose time is over."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from collections import Counter
from pathlib import Path

from skerry_simulators.chaos.plan import NOBODYS, Blow, Harm
from skerry_simulators.chaos.site import MANAGER, PULLER, Device, Site
from skerry_simulators.chaos.weather import Weather

FILLER = "filler"
HOLD_S = 5.0
PIECE = bytes(1 << 16)
CUTS = {
    Harm.CUT_UP: Weather(up=False),
    Harm.CUT_DOWN: Weather(down=False),
    Harm.CUT_BOTH: Weather(up=False, down=False),
    Harm.RESET: Weather(reset=True),
}


class Blows:
    """What is wrong at the moment. `dealt` counts what was done, `fell` the devices that ended by themselves."""

    def __init__(self, site: Site, blows: list[Blow]) -> None:
        self.dealt: Counter[Harm] = Counter()
        self.fell = 0
        self._chance, self._hold_s = random.Random(site.settings.seed), 0.0
        self._site, self._coming = site, blows
        self._going: list[tuple[float, Blow]] = []
        self._calm = Weather(loss=site.settings.loss)

    def begin(self) -> None:
        """Let packets be lost from now on."""
        for device in self._site.devices:
            self._site.network.set(device.number, self._calm)

    def step(self, share: float) -> None:
        """Do what is due when this share of the samples is kept."""
        now_s = time.monotonic()
        for until_s, blow in list(self._going):
            if until_s <= now_s:
                self._going.remove((until_s, blow))
                self._end(blow)
        while self._coming and self._coming[0].at <= share and now_s >= self._hold_s:
            blow = self._coming.pop(0)
            if self._deal(blow):
                self.dealt[blow.harm] += 1
                self._going.append((now_s + blow.lasts_s, blow))
            else:
                # What it would hit is not up: some moment later, which may be its very first.
                self._coming.insert(0, blow)
                self._hold_s = now_s + self._chance.uniform(0.0, HOLD_S)
                break

    def holds(self, device: int) -> bool:
        """Whether a device is down because it was killed."""
        return any(blow.harm is Harm.AGENT and blow.device == device for _, blow in self._going)

    @property
    def over(self) -> bool:
        """Whether all blows were dealt, and all have ended."""
        return not self._coming and not self._going

    def finish(self) -> None:
        """End all trouble, and let all packets pass."""
        self._coming.clear()
        for _, blow in self._going:
            self._end(blow)
        self._going.clear()
        for device in self._site.devices:
            self._site.network.set(device.number, Weather())

    def _deal(self, blow: Blow) -> bool:
        """Do a harm; False: what it would hit is not up, or suffers already."""
        going = [each for _, each in self._going]
        if blow.harm in NOBODYS:
            same = (Harm.LAKE,) if blow.harm is Harm.LAKE else (Harm.BROKER, Harm.MANAGER)
            return not any(each.harm in same for each in going) and self._kill(blow.harm)
        device = self._device(blow)
        if any(each.device == blow.device for each in going):
            return False
        if device.process is None or device.process.poll() is not None:
            return False
        if blow.harm is Harm.AGENT:
            self._site.end_device(device, signal.SIGKILL)
        elif blow.harm is Harm.FULL:
            fill(device)
        else:
            self._site.network.set(device.number, CUTS[blow.harm])
        return True

    def _kill(self, harm: Harm) -> bool:
        children = self._site.street.children
        if harm is Harm.BROKER:
            pid = self._site.broker_pid()
            if pid is None or not _is_broker(pid):
                return False
            os.kill(pid, signal.SIGKILL)  # its manager starts it again
            return True
        name = MANAGER if harm is Harm.MANAGER else PULLER
        os.kill(children.pid(name), signal.SIGKILL)
        children.forget(name)
        return True

    def _end(self, blow: Blow) -> None:
        match blow.harm:
            case Harm.MANAGER:
                self._site.start_manager()
            case Harm.LAKE:
                self._site.start_puller()
            case Harm.AGENT:
                self._site.start_device(self._device(blow))
            case Harm.FULL:
                empty(self._device(blow))
            case Harm.BROKER:
                pass
            case _:
                self._site.network.set(blow.device, self._calm)

    def _device(self, blow: Blow) -> Device:
        return self._site.devices[blow.device - 1]


def fill(device: Device) -> None:
    """Let a device's disk be full: a small file system of its own to the last byte, else by a limit on file sizes."""
    if device.root.is_mount():
        with (device.root / FILLER).open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(PIECE)
    elif device.process is not None:
        _, hard = resource.prlimit(device.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(device.process.pid, resource.RLIMIT_FSIZE, (0, hard))


def empty(device: Device) -> None:
    """Let there be room again."""
    if device.root.is_mount():
        (device.root / FILLER).unlink(missing_ok=True)
    elif device.process is not None and device.process.poll() is None:
        _, hard = resource.prlimit(device.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(device.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def _is_broker(pid: int) -> bool:
    """Whether a child of the manager has become the broker (for a moment it is still the guard that starts it)."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"mosquitto" in words[0] or b"skerry_fleet.broker" in words
    return False
