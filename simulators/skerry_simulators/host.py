"""What a simulated body needs of the device around it, and what it knows of a worker."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any, Protocol

from skerry_agent import effects
from skerry_agent.core import DeviceCore
from skerry_agent.ledger import Key
from skerry_simulators.catalogue import Inputs, Kind
from skerry_simulators.faults import Faults
from skerry_simulators.repository import Repository


@dataclasses.dataclass(slots=True)
class Worker:
    """The worker of one slot: what it runs, and how."""

    bundle: str
    variant: str
    kind: Kind
    crashes: int = 0
    running: bool = True
    predictions: int = 0
    errors: int = 0
    restarts: int = 0


class Host(Protocol):
    """What the body needs of the device around it."""

    core: DeviceCore | None
    rng: random.Random
    faults: Faults
    repository: Repository
    inputs: Inputs
    pressed: bool

    def later(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run an action after a while, unless the device goes off before."""

    def ask(self, name: str, *arguments: Any) -> None:
        """Call a method of the core, and carry out what it returns."""

    def reachable(self) -> bool:
        """Whether the fleet can be reached over HTTP."""

    def publish(self, channel: str, payload: bytes, key: Key | None) -> None:
        """Send a message."""

    def verify(self, envelope: bytes) -> bytes | None:
        """Return the payload of a signed assignment; None where the signature does not hold."""

    def sign(self, effect: effects.Sign) -> None:
        """Sign a receipt and tell the core."""

    def times(self) -> tuple[float, float]:
        """Return what the device believes the date is, and the true date."""

    def loading(self, bundle: str, variant: str) -> None:
        """A worker is about to map a bundle's bytes: the moment that I1 speaks of."""

    def asking(self, effect: effects.FetchManifest) -> None:
        """The update repository is asked."""

    def hit(self, kind: str) -> None:
        """Something went wrong for this device."""

    def answered(self, answered: bool) -> None:
        """A local program asked for an inference, and was answered or not."""

    def note(self, what: str, detail: str = "") -> None:
        """Add to the history."""
