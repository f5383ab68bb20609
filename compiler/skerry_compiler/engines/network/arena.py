"""Where tensors lie in the arena of a small machine: each as low as its neighbours in time allow, those that an
operation writes over what it has read as near to it as they may be; the best of several orders.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from skerry_compiler.engines.network.overlap import BACKWARDS, FORWARDS, Pair


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """Memory that is needed from one operation to another."""

    size_bytes: int
    born: int
    dies: int


@dataclasses.dataclass(slots=True)
class Layout:
    """Offsets in bytes, and the ways that operations go whose output lies over what they read (by their ids)."""

    offsets: dict[int, int]
    ways: dict[int, str]
    size_bytes: int = 0


# The largest first; in running order; from the end.
ORDERS: tuple[Callable[[Life], tuple[int, ...]], ...] = (
    lambda life: (-life.size_bytes, life.born),
    lambda life: (life.born, life.dies),
    lambda life: (-life.dies, life.born),
)


def lay(lives: Sequence[Life], pairs: Mapping[tuple[int, int], Pair]) -> Layout:
    """Return the smallest layout found.

    Args:
        lives: each memory.
        pairs: numbers in `lives` of what is read and what is written over it.
    """
    near: list[list[int]] = [[] for _ in lives]
    for i, life in enumerate(lives):
        for j in range(i):
            if life.born <= lives[j].dies and lives[j].born <= life.dies:
                near[i].append(j)
                near[j].append(i)
    orders = [sorted(range(len(lives)), key=lambda i: order(lives[i])) for order in ORDERS]
    made = [_Greedy(lives, pairs, near).run(each) for each in orders]
    apart = _Greedy(lives, {}, near).run(orders[0])
    return min(apart, *made, key=lambda each: each.size_bytes)


class _Greedy:
    """Places one memory after another at the lowest place where it may lie."""

    def __init__(
        self, lives: Sequence[Life], pairs: Mapping[tuple[int, int], Pair], near: Sequence[Sequence[int]]
    ) -> None:
        self.lives, self.pairs, self.near = lives, pairs, near
        self.offsets: dict[int, int] = {}
        self.ways: dict[int, set[str]] = {}

    def run(self, order: Sequence[int]) -> Layout:
        """Place all of them in an order."""
        for each in order:
            others = [other for other in self.near[each] if other in self.offsets]
            found = next(
                (at, ways)
                for at in sorted(self._candidates(each, others))
                if (ways := self._ways(each, at, others)) is not None
            )
            self.offsets[each] = found[0]
            self.ways |= found[1]
        size = max((at + self.lives[each].size_bytes for each, at in self.offsets.items()), default=0)
        chosen = {op: FORWARDS if FORWARDS in ways else BACKWARDS for op, ways in self.ways.items()}
        return Layout(self.offsets, chosen, size)

    def _candidates(self, each: int, others: Sequence[int]) -> set[int]:
        """Return offsets worth a try: the lowest, behind the others, and at the distances that pairs ask for."""
        found = {0}
        for other in others:
            at = self.offsets[other]
            found.add(at + self.lives[other].size_bytes)
            above, below = self.pairs.get((each, other)), self.pairs.get((other, each))
            if above is not None:  # the other is written over this one
                found |= {at + above.apart.get(FORWARDS, 0), at - above.apart.get(BACKWARDS, 0)}
            if below is not None:
                found |= {at - below.apart.get(FORWARDS, 0), at + below.apart.get(BACKWARDS, 0)}
        return {at for at in found if at >= 0}

    def _ways(self, each: int, at: int, others: Sequence[int]) -> dict[int, set[str]] | None:
        """Return the ways that operations may go with this one here, for those that must; None where it may not lie
        here.
        """
        found: dict[int, set[str]] = {}
        end = at + self.lives[each].size_bytes
        for other in others:
            start = self.offsets[other]
            if end <= start or start + self.lives[other].size_bytes <= at:
                continue
            pair, source, output = self.pairs.get((each, other)), at, start
            if pair is None:
                pair, source, output = self.pairs.get((other, each)), start, at
            if pair is None:
                return None
            key = id(pair.op)
            ways = pair.ways(source, output) & found.get(key, self.ways.get(key, {FORWARDS, BACKWARDS}))
            if not ways:
                return None
            found[key] = ways
        return found
