"""The whole false world: many real devices and the real fleet under one seed, bad luck for some days, then calm, then
the reckoning.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable

from skerry_agent.config import AgentConfig
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment, Envelope, Window, target_path
from skerry_fleet.rollout_words import Order
from skerry_fleet.tables import Desired, Device
from skerry_simulators import plans
from skerry_simulators.catalogue import CONFIG, MODEL, TENANT, Inputs, Kind, MadeBundle, make_bundle, trained_on
from skerry_simulators.clock import TrueClock
from skerry_simulators.device import PREDICTION_EVERY_S, SimDevice, Surroundings
from skerry_simulators.errors import ViolationError
from skerry_simulators.faults import DAY_S, HOUR_S, Faults
from skerry_simulators.fleet import SimFleet
from skerry_simulators.heap import Heap
from skerry_simulators.history import History
from skerry_simulators.invariants import Invariants
from skerry_simulators.link import Link
from skerry_simulators.repository import Repository
from skerry_simulators.shadowing import Shadowing
from skerry_simulators.storage import Storage, simulated
from skerry_simulators.weather import Weather

SETTLE_S = 2.5 * HOUR_S
HUSH_S = 1.5 * HOUR_S
FINAL_S = 1.5 * HOUR_S
BAD_KINDS = (Kind.GOLDEN, Kind.CRASHES, Kind.NAN)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a world is made of. `releases`: it makes and rolls out releases by itself, some of them bad; `shadows`: it
    tries others beside them; `brisk`: releases go to everybody at once, where the point is how many updates there are,
    and not how carefully they go. `ask_every_s`: how often a program on each device wants an inference.
    """

    devices: int = 100
    seed: int = 1
    days: float = 1.0
    faults: Faults = dataclasses.field(default_factory=Faults)
    releases: bool = True
    shadows: bool = False
    release_every_s: float = 3 * HOUR_S
    brisk: bool = False
    ask_every_s: float = PREDICTION_EVERY_S
    config: AgentConfig = CONFIG


class World:
    """A world; `run` lets it live and die. Subclasses and seams plant bugs, see `bugs.py`."""

    make_storage: Callable[[], Storage] = staticmethod(simulated)
    make_fleet: Callable[..., SimFleet] = SimFleet

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        rng = self._stream("world")
        self.clock = TrueClock()
        self.heap = Heap(self.clock)
        self.history = History(self.clock)
        self.repository = Repository()
        self.factory = make_bundle("1", 1, Kind.GOOD, rng)
        self.repository.add(self.factory)
        self._last = self.factory
        self.invariants = Invariants(self.repository, self.factory.id)
        self.releases = 1
        self.rollout: str | None = None
        self.rollouts: dict[str, MadeBundle] = {}
        self.devices: dict[str, SimDevice] = {}
        self.final: str | None = None
        self._rng = rng
        links: dict[str, Link] = {}
        keys = {name: device.key.public_key() for name, device in self.devices.items()}
        names = [f"d{number:04d}" for number in range(settings.devices)]
        self.fleet = type(self).make_fleet(self.heap, self.history, self._stream("fleet"), links, keys, self.invariants)
        around = Surroundings(
            self.heap, self.history, self.repository, Inputs(rng), self.invariants, self.fleet.key.public_key()
        )
        self._hostile = self._stream("hostile")
        for name in names:
            link = Link(name, self.heap, self._stream(f"link/{name}"), self._hear, self._rewrite)
            device = SimDevice(name, around, link, self._stream(f"device/{name}"), self.make_storage(), settings.config)
            link.on_fault = functools.partial(self.invariants.updates.hit, name)
            links[name], self.devices[name] = link, device
            keys[name] = device.key.public_key()
            device.ask_every_s = settings.ask_every_s
            device.provision(self.factory)
        self.fleet.enrol()
        self.weather = Weather(
            self.heap,
            self.history,
            list(self.devices.values()),
            self._stream("weather"),
            settings.faults,
            self.invariants.updates,
        )
        self.bricks: list[str] = []

    def run(self, progress: Callable[[float], None] | None = None) -> None:
        """Live: some days of weather, then calm, then the reckoning.

        Raises:
            ViolationError: an invariant does not hold.
        """
        self.start()
        self.let_pass(self.settings.days * DAY_S, progress)
        self.settle()
        self.reckon()

    def start(self) -> None:
        """Switch everything on, and begin the releases and the fleet's own bad luck."""
        self.fleet.start()
        self.fleet.mortality = self.settings.faults.fleet_mortality
        for device in self.devices.values():
            self.heap.after(self._rng.uniform(0, 60), device.boot)
        if self.settings.releases:
            self.heap.after(self._rng.uniform(300, 900), self._release)
        if self.settings.shadows:
            Shadowing(self.fleet, self.repository, self.weather, self._stream("shadow")).begin()
        if self.settings.faults.fleet_restart_every_s is not None:
            self._next_restart(self.settings.faults.fleet_restart_every_s)

    def let_pass(self, seconds: float, progress: Callable[[float], None] | None = None) -> None:
        """Let time pass; `progress` hears the share of it, now and then."""
        begin_s, step_s = self.clock.now_s, seconds / 50
        for part in range(1, 51):
            end_s = begin_s + part * step_s
            while self.heap.step(end_s):
                pass
            if progress is not None:
                progress(part / 50)

    def settle(self) -> None:
        """End all bad luck and give everybody time; what then is still rolling out is stopped."""
        self.history.add("world", "calm")
        self.weather.calm()
        self.fleet.mortality = 0.0
        self.fleet.start()
        self.let_pass(SETTLE_S)
        if self.rollout is not None:
            self.fleet.order(self.rollout, Order.ABORT)
        if self.settings.releases:  # whoever cannot take this one is a brick
            self.final = self.release(Kind.GOOD, supersede=True, brisk=True) and self._last.id
            self.let_pass(FINAL_S)
        for device in self.devices.values():
            device.asked = False  # so that at the end nothing has just been made
        self.let_pass(HUSH_S)

    def reckon(self) -> None:
        """I8: with faults over, every device runs what the fleet wants, and owes it nothing.

        Raises:
            ViolationError: somebody does not.
        """
        self.bricks = [name for name, device in self.devices.items() if self._brick(device)]
        with self.fleet.database.read() as session:
            for name, device in self.devices.items():
                self.invariants.after(device)
                self.invariants.bounded(device)
                row, desired = session.get(Device, (TENANT, name)), session.get(Desired, (TENANT, name, MODEL))
                wanted = desired.bundle if desired is not None and desired.bundle is not None else self.factory.id
                problem = self._unsettled(device, row.sequence if row is not None else -1, wanted)
                if problem:
                    raise ViolationError("I8", name, problem)

    def _brick(self, device: SimDevice) -> bool:
        """Return whether a device serves no working model, or did not take the last one, though nothing is wrong."""
        core, worker = device.core, device.body.live.get(MODEL) if device.body is not None else None
        active = core.memory.records[MODEL].active if core is not None else None
        if worker is None or not worker.running or worker.kind is not Kind.GOOD or active is None:
            return True
        return active.bundle != worker.bundle or (self.final is not None and active.bundle != self.final)

    def _unsettled(self, device: SimDevice, sequence: int, wanted: str) -> str:
        """Return why a device is not where it should be at the end; empty where it is."""
        core = device.core
        if core is None:
            return "is off at the end"
        if core.memory.sequence != sequence:
            return f"adopted {core.memory.sequence}, the fleet is at {sequence}"
        record = core.memory.records[MODEL]
        serving = record.active.bundle if record.active is not None else ""
        if serving != wanted:
            return f"serves {serving[:12]}, wanted is {wanted[:12]} ({record.stage}, {record.trouble})"
        if (kind := self.repository.bundles[serving].kind) is not Kind.GOOD:
            return f"ends on {serving[:12]}, which is {kind}"
        if (
            strange := {*core.store.bundles()} - core.memory.bundles() - {self.factory.id}
        ) and not core.memory.fetching:
            return f"keeps {len(strange)} bundles that nobody speaks of"
        if (waiting := core.spool.health.waiting) > 0:
            return f"{waiting} messages still wait"
        return ""

    # Releases, and the fleet's own bad luck.

    def release(self, kind: Kind, *, supersede: bool = False, brisk: bool = False) -> str | None:
        """Publish a new release of the model and roll it out (`brisk`: to everybody at once); returns the rollout."""
        self.releases += 1
        library = trained_on(self._last, self._rng) if self._rng.random() < 0.5 else None
        bundle = self._last = make_bundle(str(self.releases), self.releases, kind, self._rng, library)
        self.repository.publish(bundle)
        self.fleet.publish_bundle(bundle)
        self.history.add("world", "release", f"{self.releases} {kind} {bundle.id[:8]}")
        windowed = self._rng.random() < self.settings.faults.windowed and not self.weather.calmed
        minute = int(self.clock.wall_s() // 60 + self._rng.uniform(-30, 60)) % 1440
        window = Window(minute, 60) if windowed else None
        request = (plans.brisk if brisk else plans.careful)(bundle.id, len(self.devices))
        self.rollout = self.fleet.create_rollout(dataclasses.replace(request, supersede=supersede, window=window))
        if self.rollout is not None:
            self.rollouts[self.rollout] = bundle
        return self.rollout

    def _release(self) -> None:
        if self.weather.calmed:
            return
        self.heap.after(self.settings.release_every_s * self._rng.uniform(0.7, 1.3), self._release)
        if self.rollout is not None and self._rng.random() < 0.2:
            self.fleet.order(self.rollout, self._rng.choice((Order.ABORT, Order.ROLL_BACK, Order.PAUSE)))
        bad = self._rng.random() < self.settings.faults.bad_release
        kind = self._rng.choice(BAD_KINDS) if bad else Kind.GOOD
        brisk = self.settings.brisk and not bad
        self.release(kind, supersede=self._rng.random() < 0.5, brisk=brisk)

    def _next_restart(self, every_s: float) -> None:
        self.heap.after(self._rng.expovariate(1 / every_s), self._restart, every_s)

    def _restart(self, every_s: float) -> None:
        if not self.weather.calmed:
            self.fleet.kill()
            self.heap.after(self._rng.uniform(5, 300), self.fleet.start)
            self._next_restart(every_s)

    # The link's far end.

    def _hear(self, device: str, channel: str, payload: bytes) -> None:
        self.history.add(device, f"up {channel}", str(len(payload)))
        self.fleet.hear(device, channel, payload)

    def _rewrite(self, device: str, payload: bytes) -> bytes:
        """Be somebody on the way: replay, mix up, forge, or spoil an assignment."""
        rng = self._hostile
        self.history.add(device, "hostile")
        choice = rng.randrange(4)
        if choice == 0:
            return rng.choice(self.fleet.envelopes.get(device, [payload]))
        if choice == 1:
            other = rng.choice(sorted(self.fleet.envelopes))
            return self.fleet.envelopes[other][-1]
        if choice == 2:
            return self._forge(payload)
        return payload[: rng.randrange(len(payload))]

    def _forge(self, payload: bytes) -> bytes:
        """Return the assignment with another published bundle and a higher sequence under the old signature."""
        envelope = codec.decode(Envelope, payload)
        assignment = codec.decode(Assignment, envelope.payload)
        other = self.repository.bundles[self._hostile.choice(sorted(self.repository.published))].manifest
        bundle = codec.digest(codec.encode(other))
        models = tuple(
            dataclasses.replace(
                each,
                bundle=bundle,
                version=other.version,
                release=other.release,
                target_path=target_path(MODEL, bundle),
                allow_downgrade=True,
            )
            for each in assignment.models
        )
        forged = dataclasses.replace(assignment, sequence=assignment.sequence + 1, models=models)
        return codec.encode(dataclasses.replace(envelope, payload=codec.encode(forged)))

    def _stream(self, name: str) -> random.Random:
        return random.Random(f"{self.settings.seed}/{name}")
