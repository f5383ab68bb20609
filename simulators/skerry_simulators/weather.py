"""What befalls the devices of a world, and when: each fault a small function, its times from one seeded stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from skerry_simulators import faults
from skerry_simulators.catalogue import MODEL
from skerry_simulators.clock import EPOCH_S
from skerry_simulators.device import SimDevice
from skerry_simulators.faults import DAY_S, HOUR_S, Faults
from skerry_simulators.heap import Heap
from skerry_simulators.history import History
from skerry_simulators.updates import Updates

CUT_WITHIN_OPERATIONS = 60
CLOCK_RIGHT_AFTER_S = 2 * HOUR_S
YEAR_2100_S = 4_102_444_800.0


# What lasts: told to the books when it begins and when it ceases.
PARTITION, CLOCK, FULL, READ_ONLY, IO_ERROR, PRESSURE = (
    "partition", "wrong clock", "disk full", "disk read-only", "input/output error", "memory pressure"
)  # fmt: skip
ROTTING = ("store/blobs", "store/bundles")
SOON_S = 120.0


class Weather:
    """Schedules the faults of every device until `calm`, which ends them all and puts right what they left."""

    def __init__(
        self,
        heap: Heap,
        history: History,
        devices: Sequence[SimDevice],
        rng: random.Random,
        rates: Faults,
        updates: Updates,
    ) -> None:
        self.heap = heap
        self.history = history
        self.devices = devices
        self.rng = rng
        self.rates = rates
        self.updates = updates
        self.calmed = False
        for device in devices:
            device.faults = device.link.faults = rates
            for every_s, fault in self._table():
                if every_s is not None:
                    self._schedule(every_s, fault, device)

    def calm(self) -> None:
        """End every fault: everybody has power, a right clock, space and a quiet link."""
        self.calmed = True
        for device in self.devices:
            device.faults = device.link.faults = faults.NONE
            device.plug.cut_at = None
            device.clock.error_s = 0.0
            self._mend(device)
            device.boot()
            device.link.heal()
            device.pressed = False
            self.updates.over(device.name)

    def _table(self) -> tuple[tuple[float | None, Callable[[SimDevice], None]], ...]:
        rates = self.rates
        return (
            (rates.power_cut_every_s, self._power_cut),
            (rates.agent_crash_every_s, self._agent_crash),
            (rates.worker_crash_every_s, self._worker_crash),
            (rates.disconnect_every_s, self._disconnect),
            (rates.partition_every_s, self._partition),
            (rates.wrong_clock_every_s, self._wrong_clock),
            (rates.full_disk_every_s, self._fill_disk),
            (rates.read_only_every_s, self._read_only),
            (rates.bit_rot_every_s, self._rot),
            (rates.io_error_every_s, self._fail_disk),
            (rates.pressure_every_s, self._press),
        )

    def _schedule(self, every_s: float, fault: Callable[[SimDevice], None], device: SimDevice) -> None:
        self.heap.after(self.rng.expovariate(1 / every_s), self._strike, every_s, fault, device)

    def _strike(self, every_s: float, fault: Callable[[SimDevice], None], device: SimDevice) -> None:
        if not self.calmed:
            fault(device)
            self._schedule(every_s, fault, device)

    def _power_cut(self, device: SimDevice) -> None:
        """Now, or in the middle of what the device writes next."""
        if self.rng.random() < self.rates.cut_in_update:
            device.plug.cut_in(self.rng.randrange(1, CUT_WITHIN_OPERATIONS))
        else:
            device.power_cut()

    def _agent_crash(self, device: SimDevice) -> None:
        """The process ends: by a mistake, or because somebody restarts it."""
        if self.rng.random() < 0.5:
            device.agent_stop()
        else:
            device.agent_crash()

    def _worker_crash(self, device: SimDevice) -> None:
        device.worker_crash(MODEL)

    def _disconnect(self, device: SimDevice) -> None:
        device.link.drop()

    def _partition(self, device: SimDevice) -> None:
        seconds = self.rng.expovariate(1 / self.rates.partition_s)
        self.history.add(device.name, "partition", f"{seconds:.0f}")
        self._lasting(device, PARTITION, seconds)
        device.link.partition(seconds)

    def _wrong_clock(self, device: SimDevice) -> None:
        """1970 (no battery), 2100, an hour back, sixty days ahead; somebody sets it right after a while."""
        true_s = device.clock.true.wall_s()
        wall_s = self.rng.choice((true_s - EPOCH_S, YEAR_2100_S, true_s - HOUR_S, true_s + 60 * DAY_S))
        device.clock.set_wall(wall_s)
        self.history.add(device.name, "wrong clock", f"{wall_s:.0f}")
        seconds = self.rng.expovariate(1 / CLOCK_RIGHT_AFTER_S)
        self._lasting(device, CLOCK, seconds)
        self.heap.after(seconds, self._right_clock, device)

    def _right_clock(self, device: SimDevice) -> None:
        device.clock.error_s = 0.0

    def _fill_disk(self, device: SimDevice) -> None:
        left = self.rng.choice((0, 0, 2000))
        device.storage.fill(left)
        self.history.add(device.name, "disk full", str(left))
        self._mended_after(device, FULL, self.rates.full_disk_s)

    def _read_only(self, device: SimDevice) -> None:
        device.storage.refuse()
        self.history.add(device.name, "disk read-only")
        self._mended_after(device, READ_ONLY, self.rates.read_only_s)

    def _fail_disk(self, device: SimDevice) -> None:
        """The medium fails some reads and writes for a while."""
        dice, share = random.Random(self.rng.random()), self.rates.io_error
        device.storage.fail(lambda: dice.random() < share)
        self.history.add(device.name, "disk fails")
        self._mended_after(device, IO_ERROR, self.rates.io_error_s)

    def _rot(self, device: SimDevice) -> None:
        """A bit of something stored changes; as a rule somebody reads it soon, because the worker starts anew."""
        path = device.storage.rot(self.rng, self.rng.choice(ROTTING))
        if path is not None:
            self.history.add(device.name, "bit rot", path[-8:])
            device.hit("bit rot")
            self.heap.after(self.rng.uniform(0, SOON_S), self._worker_crash, device)

    def _press(self, device: SimDevice) -> None:
        """Memory is short for a while: the kernel ends workers, and what begins to load."""
        seconds = self.rng.expovariate(1 / self.rates.pressure_s)
        self.history.add(device.name, "memory short", f"{seconds:.0f}")
        self._lasting(device, PRESSURE, seconds)
        device.set_pressed(True)
        self.heap.after(seconds, self._relieve, device)

    def _relieve(self, device: SimDevice) -> None:
        device.set_pressed(False)

    def _lasting(self, device: SimDevice, kind: str, seconds: float) -> None:
        self.updates.lasts(device.name, kind, begins=True)
        self.heap.after(seconds, self._ceases, device, kind)

    def _ceases(self, device: SimDevice, kind: str) -> None:
        if not self.calmed:
            self.updates.lasts(device.name, kind, begins=False)

    def _mended_after(self, device: SimDevice, kind: str, mean_s: float) -> None:
        seconds = self.rng.expovariate(1 / mean_s)
        self._lasting(device, kind, seconds)
        self.heap.after(seconds, self._mend, device)

    def _mend(self, device: SimDevice) -> None:
        device.storage.mend()
