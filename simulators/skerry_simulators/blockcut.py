"""What may be on a device after its power went: images cut out of a log of writes.

A device that acknowledged a flush keeps what was written before it. Of later writes it may have kept any, in any
order, whole or in part: a sector of 512 bytes is written or not, never half. Writes are kept or lost as the seed says,
each in the order of the log where two touch the same sector (no kernel sends the second before the first returned).

A recipe `POSITION.KIND.SEED` names one image of a log and makes it again, byte for byte.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import random
import re
from collections.abc import Iterator, Sequence

from skerry_simulators.blocklog import SECTOR, Entry, Flush, Write
from skerry_simulators.errors import SimulatorError

PREFIX, MIXED, TORN = "prefix", "mixed", "torn"
KINDS = (PREFIX, MIXED, TORN)
_RECIPE = re.compile(rf"(\d+)\.({'|'.join(KINDS)})\.(\d+)")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Recipe:
    """The power goes before the log's entry `position`. Of what no flush covers, `prefix` keeps everything, `mixed` any
    of the writes, and `torn` any of the sectors of some.
    """

    position: int
    kind: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.position}.{self.kind}.{self.seed}"


def recipe(text: str) -> Recipe:
    """Return the recipe that a text names.

    Raises:
        SimulatorError: none.
    """
    found = _RECIPE.fullmatch(text)
    if found is None:
        raise SimulatorError(f"{text!r:.60} is no recipe", hint="give it as a violation printed it: POSITION.KIND.SEED")
    return Recipe(int(found[1]), found[2], int(found[3]))


class Cutter:
    """Makes images of one log. Fast where recipes come with rising positions."""

    def __init__(self, base: bytes, log: Sequence[Entry]) -> None:
        self._base, self._log = base, log
        self._flushes = [position for position, entry in enumerate(log) if isinstance(entry, Flush)]
        self._durable, self._applied = bytearray(base), 0

    def image(self, wanted: Recipe) -> bytearray:
        """Return what a recipe makes of the device."""
        start = self.flushed(wanted.position)
        if start < self._applied:
            self._durable, self._applied = bytearray(self._base), 0
        for entry in self._log[self._applied : start]:
            if isinstance(entry, Write):
                self._durable[entry.at : entry.at + len(entry.data)] = entry.data
        self._applied = start
        made = bytearray(self._durable)
        for at, data in self.kept(wanted):
            made[at : at + len(data)] = data
        return made

    def flushed(self, position: int) -> int:
        """Return the position of the last flush that was acknowledged before a position; 0 where there is none."""
        before = bisect.bisect_left(self._flushes, position)
        return self._flushes[before - 1] if before else 0

    def kept(self, wanted: Recipe) -> Iterator[tuple[int, bytes]]:
        """Yield what is kept of the writes that no flush covers."""
        chance = random.Random(str(wanted))
        share = chance.choice((0.0, 0.2, 0.5, 0.8, 0.95))  # of the writes that are whole
        for entry in self._log[self.flushed(wanted.position) : wanted.position]:
            if not isinstance(entry, Write):
                continue
            if wanted.kind == PREFIX or entry.through or chance.random() < share:
                yield entry.at, entry.data
            elif wanted.kind == TORN and chance.random() < 0.5:
                yield from _sectors(entry, chance)

    def digest(self, wanted: Recipe) -> bytes:
        """Return a digest that two recipes share where they make the same image at the same moment."""
        running = hashlib.blake2b(digest_size=16)
        start = self.flushed(wanted.position)
        running.update(b"%d" % sum(not isinstance(entry, Write) for entry in self._log[start : wanted.position]))
        running.update(b"/%d" % start)
        for at, data in self.kept(wanted):
            running.update(b"/%d/%d/" % (at, len(data)))
            running.update(data)
        return running.digest()


def _sectors(entry: Write, chance: random.Random) -> Iterator[tuple[int, bytes]]:
    """Yield the sectors that are kept of one write: its beginning, or any."""
    count = len(entry.data) // SECTOR
    if chance.random() < 0.5:
        yield entry.at, entry.data[: chance.randrange(count + 1) * SECTOR]
        return
    for number in range(count):
        if chance.random() < 0.5:
            yield entry.at + number * SECTOR, entry.data[number * SECTOR : (number + 1) * SECTOR]


def recipes(cutter: Cutter, log: Sequence[Entry], count: int, seed: int, start: int = 0) -> list[Recipe]:
    """Return recipes of so many different images (fewer, where there are not so many), by rising position.

    Every prefix that ends at a flush comes first, as far as the count goes; the rest are mixed and torn, and as many of
    them in a short stretch between two flushes as in a long one: what matters is which flush was the last.
    `start`: no cut before this position.
    """
    chance = random.Random(f"{seed}/recipes")
    ends = [position for position, entry in enumerate(log) if isinstance(entry, Flush) and position >= start]
    windows = [(max(start, cutter.flushed(end)), end) for end in ends]
    windows = [window for window in windows if any(isinstance(each, Write) for each in log[window[0] : window[1]])]
    if not windows:
        raise SimulatorError("nothing was written between two flushes", hint="record a longer life")
    chosen = windows if len(windows) <= count // 2 else chance.sample(windows, max(1, count // 2))
    found = {cutter.digest(each): each for each in (Recipe(end, PREFIX) for _, end in chosen)}
    for _ in range(8 * count):
        if len(found) >= count:
            break
        begin, end = chance.choice(windows)
        made = Recipe(chance.randint(begin + 1, end), chance.choice((MIXED, TORN)), chance.randrange(1 << 30))
        found.setdefault(cutter.digest(made), made)
    return sorted(found.values())[:count]
