"""Bad models, one after another, to one fleet: how many devices ever try each, and how soon all are back.

Both are counted by the devices themselves, not by the fleet: whoever turned to the bundle was exposed, and is back when
it runs what it ran before. Each seed is one bad release with a plan of its own (canary, waves, failure budget).
"""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Any

from skerry_contracts.device import Phase, Reason
from skerry_simulators.errors import SimulatorError
from skerry_simulators.swarm import releases
from skerry_simulators.swarm.scenarios import Figures, Stage
from skerry_simulators.swarm.words import Behaviour

KINDS: dict[str, dict[str, Any]] = {
    "fails": {"ends": Phase.ROLLED_BACK, "reason": Reason.GOLDEN},
    "degrades": {"error_share": 1 / 3},
    "silences": {"silences": True},
}
"""How a bundle is bad: it fails each device's own trial; its predictions fail in service; who runs it falls silent."""
BUDGET = 10
BEAT_S = 2.0
SOAK_S = 4.0
SILENT_S = 8.0
"""How long a device may take to confirm: the only way in which silence is seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one bad release came to. `rollback_s`: from the first failure on a device until all were back and the fleet
    knew it.
    """

    kind: str
    exposed: int
    rollback_s: float
    rolled_back: bool


def prepare(on: Stage) -> None:
    """Bring a good release to every device, and let them report often."""
    releases.roll_out(on, releases.release(on, told="last"), canary=1, waves=[{"percent": 100}])
    on.beat(BEAT_S)


def expose(on: Stage, seed: int) -> Outcome:
    """Roll out one bad release, and wait until it is taken back."""
    chance, kind = random.Random(seed), list(KINDS)[seed % len(KINDS)]
    with on.ground.client() as client:
        manifest = on.ground.publish(client)
    bundle = releases.bundle_id(manifest)
    releases.behave(on, Behaviour(manifest.version, bundle, **KINDS[kind]), told=chance.choice(("all", "last")))
    on.team.order("watch", bundle=bundle)
    plan = {
        "canary": chance.choice((1, 2, 5, 10)),
        "waves": [{"percent": percent} for percent in chance.choice(((100,), (10, 100), (1, 5, 25, 100)))],
        "failure_budget": chance.choice((0, 0, 1)),
        "exposure_budget": BUDGET,
    }
    found = releases.roll_out(on, bundle, **plan, soak_s=SOAK_S, timeout_s=SILENT_S)
    ended_s = time.time()
    truth = on.team.until(
        lambda now: not now["bundles"].get(bundle), on.wish.limit_s, "no device runs the bad release", on.say
    )
    if not truth["first_failed_s"]:
        raise SimulatorError(f"seed {seed}: no device ever tried the bad release ({found['status']})")
    back_s = max(ended_s, truth["last_back_s"]) - truth["first_failed_s"]
    return Outcome(kind, truth["exposed"], back_s, found["status"] == "rolled-back")


def exposure(on: Stage, seeds: int) -> Figures:
    """Run so many seeds; return the most that ever were exposed, and the longest way back."""
    prepare(on)
    found = []
    for seed in range(seeds):
        found.append(expose(on, seed))
        last = found[-1]
        on.say(f"seed {seed + 1} of {seeds}: {last.kind}, {last.exposed} exposed, back in {last.rollback_s:.1f} s")
    on.beat()
    slowest = {kind: [each.rollback_s for each in found if each.kind == kind] for kind in KINDS}
    return {
        "exposed_max": max(each.exposed for each in found),
        "rollback_s": max(each.rollback_s for each in found),
        **{f"rollback_{kind}_s": max(times) for kind, times in slowest.items() if times},
        "not_rolled_back": sum(not each.rolled_back for each in found),
    }
