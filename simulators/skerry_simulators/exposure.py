"""I4, counted from outside: how many devices hold an order for a bundle that none of their heartbeats has shown
serving yet.

Devices that are on their way, silent, retrying or failed all count, because the fleet cannot know what they are
doing. What the rollout machine believes is not asked: only what was signed, and what came back.
"""

from __future__ import annotations

import dataclasses

from skerry_fleet.rollout_plan import Plan
from skerry_simulators.errors import ViolationError


@dataclasses.dataclass(slots=True)
class _Rollout:
    bundle: str
    allowed: int
    ordered: set[str] = dataclasses.field(default_factory=set)
    shown: set[str] = dataclasses.field(default_factory=set)

    @property
    def exposed(self) -> int:
        return len(self.ordered) - len(self.shown)


class Exposure:
    """The books of every rollout."""

    def __init__(self) -> None:
        self.worst: dict[str, int] = {}
        self._rollouts: dict[str, _Rollout] = {}
        self._by_bundle: dict[str, list[_Rollout]] = {}

    def begin(self, rollout: str, bundle: str, plan: Plan) -> None:
        """A rollout exists."""
        granted = [wave.in_flight or plan.exposure_budget for wave in plan.waves]
        book = _Rollout(bundle, max([plan.exposure_budget, *granted]))
        self._rollouts[rollout] = book
        self._by_bundle.setdefault(bundle, []).append(book)

    def ordered(self, device: str, bundle: str, rollout: str) -> None:
        """A committed assignment orders a device to run a bundle, on behalf of a rollout."""
        book = self._rollouts.get(rollout)
        if book is None or book.bundle != bundle or device in book.ordered:
            return
        book.ordered.add(device)
        self.worst[rollout] = max(self.worst.get(rollout, 0), book.exposed)
        if book.exposed > book.allowed:
            raise ViolationError(
                "I4", "fleet", f"{book.exposed} devices exposed to {bundle[:12]} by {rollout}, {book.allowed} allowed"
            )

    def shown(self, device: str, bundle: str) -> None:
        """A heartbeat that the fleet committed shows a device serving a bundle."""
        for book in self._by_bundle.get(bundle, ()):
            if device in book.ordered:
                book.shown.add(device)
