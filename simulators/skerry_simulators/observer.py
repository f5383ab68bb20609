"""Who watches the simulated devices (`device`: a `SimDevice`, which this module cannot name without a ring)."""

from __future__ import annotations

from typing import Any, Protocol

from skerry_agent import effects
from skerry_agent.ledger import Change


class Observer(Protocol):
    """Who watches the invariants."""

    def after(self, device: Any) -> None:
        """Something happened on this device."""

    def committed(self, device: Any, change: Change) -> None:
        """The device's ledger took a change."""

    def booting(self, device: Any) -> None:
        """The device is about to take up what its ledger and disk hold."""

    def loading(self, device: Any, bundle: str, variant: str) -> None:
        """The device is about to run a bundle."""

    def asking(self, device: Any, effect: effects.FetchManifest) -> None:
        """The device asks the update repository."""

    def hit(self, device: Any, kind: str) -> None:
        """Something went wrong for the device."""

    def answered(self, device: Any, answered: bool) -> None:
        """A program on the device asked for an inference."""
