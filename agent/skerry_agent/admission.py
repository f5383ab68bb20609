"""Who may be in memory: what each worker costs, what the device spends on models, and who leaves to make room.

A model's worth is what it would cost to have it back (its cold start) over how long nobody asked for it, as in
GreedyDual caches (Cao and Irani, 1997) without the sizes: those decide only how many must leave. Nothing that runs an
inference, is on trial or was abandoned on purpose is ever chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Place(Protocol):
    """A slot, as far as admission is concerned."""

    @property
    def cold_start_ms(self) -> float:
        """What it takes to have it back."""

    @property
    def used_s(self) -> float:
        """When it was last asked, in the event loop's time."""

    def cost_bytes(self) -> int:
        """Return the memory that it takes, or is going to take."""


class Guest(Protocol):
    """A worker that serves nobody: it leaves before any that does."""

    name: str

    def cost_bytes(self) -> int:
        """Return the memory that it takes."""

    async def leave(self) -> None:
        """Give it back; it may come again when there is room."""


P = TypeVar("P", bound=Place)


def worth(place: Place, now_s: float) -> float:
    """Return how dear it would be to let a worker go: milliseconds of cold start per second of idleness."""
    return place.cold_start_ms / (1.0 + max(0.0, now_s - place.used_s))


def leavers(candidates: Sequence[P], short_bytes: int, now_s: float) -> list[P] | None:
    """Return the candidates that leave so that `short_bytes` become free, cheapest first; None: not even all would do.

    None of those returned could stay.
    """
    if short_bytes <= 0:
        return []
    chosen: list[P] = []
    freed = 0
    for each in sorted(candidates, key=lambda place: worth(place, now_s)):
        if freed >= short_bytes:
            break
        chosen.append(each)
        freed += each.cost_bytes()
    if freed < short_bytes:
        return None
    for each in reversed(chosen[:]):  # a large one that came late may make a smaller one's leaving needless
        if freed - each.cost_bytes() >= short_bytes:
            chosen.remove(each)
            freed -= each.cost_bytes()
    return chosen
