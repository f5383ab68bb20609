"""The chapters of a device's life: each kind of update, and everything else that a device writes."""

from __future__ import annotations

import random
from collections.abc import Callable

from skerry_agent.carrying_update import carry_update_in
from skerry_agent.identity import promote
from skerry_agent.records import Stage
from skerry_agent.steps import MAX_DOUBTS
from skerry_contracts import codec
from skerry_simulators.catalogue import MODEL, Kind, MadeBundle
from skerry_simulators.errors import SimulatorError
from skerry_simulators.power_fleet import LIFE_DAYS
from skerry_simulators.power_life import DEVICE, LIBRARY_BYTES, Life, Offer


def _resume(life: Life, bundle: MadeBundle) -> None:
    life.fleet.cut_after = life.rng.randrange(100, LIBRARY_BYTES)
    life.offer(bundle)
    life.until(lambda: life.stage == Stage.DOWNLOADING.value, "a download")
    life.until(lambda: life.fleet.cut_after is None, "the connection breaks")
    life.fleet.cut_after = life.rng.randrange(100, 8 << 10)
    life.updated(bundle)
    life.fleet.cut_after = None


def _delta(life: Life, bundle: MadeBundle) -> None:
    life.offer(bundle)
    life.updated(bundle)


def _golden(life: Life, bundle: MadeBundle) -> None:
    before = life.active
    life.offer(bundle)
    life.until(lambda: life.stage == Stage.TRIAL.value, "a trial")
    life.until(lambda: life.drained and life.active == before, "the failed trial ends")


def _crash(life: Life, bundle: MadeBundle) -> None:
    before = life.active
    life.offer(bundle)
    for _ in range(MAX_DOUBTS + 1):  # before it counts against the bundle
        life.until(lambda: life.stage == Stage.OBSERVING.value, "an observation")
        life.predict()
        life.until(lambda: life.active == before, "the bundle that crashes is taken back")
    life.until(lambda: life.drained and life.active == before, "it is given up")


def _reboot(life: Life, bundle: MadeBundle) -> None:
    """Two restarts in a trial or an observation take the candidate back."""
    before, wanted = life.active, life.rng.choice((Stage.TRIAL, Stage.OBSERVING)).value
    life.offer(bundle)
    life.until(lambda: life.stage == wanted, f"stage {wanted}")
    for _ in range(2):
        life.device.off()
        life.run(2)
        life.start()
        life.run(0.2)
    life.until(lambda: life.drained and life.active in (before, bundle.id), "it rests after two boots")


def _spool(life: Life) -> None:
    """Samples pile up without a network, in batches; then all of them go."""
    life.link.partition(6 * 3600.0)
    for _ in range(20):
        life.run(life.rng.uniform(100, 600))
        for _ in range(life.rng.randrange(30)):
            life.predict()
    life.link.heal()
    life.until(lambda: life.drained, "the spool is empty")


def _renew(life: Life) -> None:
    """A new key and certificate at two thirds of the old one's life, then proven."""
    due_s = life.clock.wall_s() + LIFE_DAYS * 86400 * 0.7
    said, _, words = life.device.child("renew", now_s=due_s)
    if words or not said["renewed"]:
        raise SimulatorError(f"no renewal: {words}", hint="this is a mistake of the simulator")
    life.note(renewed=len(life.fleet.certificates))
    life.run(60)
    promote(life.device.disk)
    life.note(promoted=len(life.fleet.certificates))


def _carry(life: Life, bundle: MadeBundle) -> None:
    """An update by file, with the agent stopped; it is gone after the next start."""
    life.stop()
    life.sequence += 1
    life.fleet.publish(bundle)
    envelope = life.fleet.assign(DEVICE, life.sequence, bundle)
    file = life.fleet.folder / "update"
    life.fleet.carry(envelope, bundle, file)
    carry_update_in(life.config, file, life.clock.wall_s())
    life.note(carried=codec.digest(file.read_bytes()))
    life.start()
    life.updated(bundle)
    life.stop()
    life.note(carried="")
    life.start()
    life.until(lambda: life.drained, "the device rests")


def _remove(life: Life) -> None:
    """An assignment without the model: the factory's serves."""
    life.offer(None)
    life.until(lambda: life.drained and life.active == life.factory.id, "the model is removed")


def _downgrade(life: Life) -> None:
    """Back to an older release, by order."""
    core = life.device.core
    floor = core.memory.records[MODEL].floor if core is not None else 0
    older = [each for each in life.bundles.values() if each.kind is Kind.GOOD and each.manifest.release < floor]
    if older and older[0].id != life.active:
        life.offer(older[0], downgrade=True)
        life.updated(older[0])


_WITH: dict[str, tuple[Kind, Callable[[Life, MadeBundle], None]]] = {
    "resume": (Kind.GOOD, _resume),
    "delta": (Kind.GOOD, _delta),
    "golden": (Kind.GOLDEN, _golden),
    "crash": (Kind.CRASHES, _crash),
    "reboot": (Kind.GOOD, _reboot),
    "carry": (Kind.GOOD, _carry),
    "again": (Kind.GOOD, _delta),
}
_WITHOUT: dict[str, Callable[[Life], None]] = {
    "spool": _spool,
    "renew": _renew,
    "remove": _remove,
    "downgrade": _downgrade,
}
NAMES = (*_WITH, *_WITHOUT)


def order(seed: int) -> list[str]:
    """Return the chapters of a seed's life in their order."""
    names = list(NAMES)
    random.Random(f"{seed}/chapters").shuffle(names)
    return names


def offers(seed: int) -> list[Offer]:
    """Return the releases that a seed's life needs."""
    return [Offer(name, _WITH[name][0], fresh=name in ("resume", "carry")) for name in order(seed) if name in _WITH]


def live(life: Life, names: list[str]) -> None:
    """Live through chapters.

    Raises:
        SimulatorError: one does not end as it must, without any cut.
    """
    for name in names:
        life.note(chapter=name)
        if name in _WITH:
            _WITH[name][1](life, life.bundles[name])
        else:
            _WITHOUT[name](life)
