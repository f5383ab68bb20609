"""Who watches the simulated devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from skerry_agent import effects
from skerry_agent.ledger import Change

if TYPE_CHECKING:
    from skerry_simulators.device import SimDevice


class Observer(Protocol):
    """Who watches the invariants."""

    def after(self, device: SimDevice) -> None:
        """Something happened on this device."""

    def committed(self, device: SimDevice, change: Change) -> None:
        """The device's ledger took a change."""

    def booting(self, device: SimDevice) -> None:
        """The device is about to take up what its ledger and disk hold."""

    def loading(self, device: SimDevice, bundle: str, variant: str) -> None:
        """The device is about to run a bundle."""

    def asking(self, device: SimDevice, effect: effects.FetchManifest) -> None:
        """The device asks the update repository."""

    def hit(self, device: SimDevice, kind: str) -> None:
        """Something went wrong for the device."""

    def answered(self, device: SimDevice, answered: bool) -> None:
        """A program on the device asked for an inference."""
