"""What goes wrong in a run, and when: the same seed makes the same plan. `at` is the share of samples kept by then."""

from __future__ import annotations

import dataclasses
import random
from enum import StrEnum

LOSS = 0.1


class Harm(StrEnum):
    """What can be done to a site."""

    BROKER = "broker"  # kill -9
    MANAGER = "manager"  # kill -9, its broker with it
    AGENT = "agent"  # kill -9, its workers with it
    LAKE = "lake"  # kill -9 of what pulls samples from the fleet into the lake
    CUT_UP = "cut up"  # nothing from a device arrives
    CUT_DOWN = "cut down"  # nothing to a device arrives
    CUT_BOTH = "cut both"
    RESET = "reset"  # every packet is answered with a TCP reset
    FULL = "full disk"


KILLS = (Harm.BROKER, Harm.MANAGER, Harm.AGENT, Harm.LAKE)
NOBODYS = (Harm.BROKER, Harm.MANAGER, Harm.LAKE)  # harms that concern no device


@dataclasses.dataclass(frozen=True, slots=True)
class Blow:
    """One harm: when (share of the samples), to which device (by number; 0 where it concerns none), how long."""

    at: float
    harm: Harm
    device: int
    lasts_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """One run. `devices` run with a feed inside; one more, unmodified, is asked by a program through the local API.

    `kills` are made of broker, manager, devices and the lake's puller each; `cuts` of each kind of trouble on the
    network and of full disks; `longest_s` bounds how long one of them lasts.
    """

    samples: int
    devices: int = 6
    seed: int = 1
    kills: int = 20
    cuts: int = 5
    longest_s: float = 30.0
    loss: float = LOSS
    patience_s: float = 300.0
    network: str = "auto"
    broker: str = "auto"


def plan(settings: Settings) -> list[Blow]:
    """Return the blows of a run, in order; they spread over the middle nine tenths of it."""
    chance = random.Random(settings.seed)
    counts = dict.fromkeys(KILLS, settings.kills)
    counts |= {harm: settings.cuts for harm in Harm if harm not in counts}
    blows = []
    for harm, count in counts.items():
        for number in range(count):
            at = 0.03 + 0.92 * (number + chance.random()) / count
            # The last device is the one that a program asks; it is killed and cut off like all others.
            device = chance.randint(1, settings.devices + 1) if harm not in NOBODYS else 0
            lasts_s = settings.longest_s * 10 ** -chance.uniform(0, 1.5)
            blows.append(Blow(at, harm, device, min(lasts_s, 3.0) if harm in KILLS else lasts_s))
    return sorted(blows, key=lambda blow: (blow.at, blow.harm))
