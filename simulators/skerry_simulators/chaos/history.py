"""What a device says of its own ledger while it lives, line by line, and what can be concluded when all is over.

    try WORDS     a transaction is about to be written
    ok            it was: from here on the device has promised what it added
    no            it was refused: nothing of it happened

A word is a sign, a boot and ranges of sequence numbers, as `+BOOT:1-64,70`:

    +  samples kept              *  other messages kept
    -  removed, acknowledged     !  removed, given up for room     ?  both kinds in one transaction

A process that is killed leaves its last line without an answer: that transaction may have happened or not.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from skerry_agent.ledger import Change, Key, Ledger, Row, Stub
from skerry_agent.spool import TOTALS, Totals
from skerry_contracts import codec

SAMPLE = "sample"


def words(sign: str, keys: Iterable[Key]) -> list[str]:
    """Return keys as words.

    >>> words("+", [("b", 1), ("b", 2), ("b", 5)])
    ['+b:1-2,5']
    """
    boots: defaultdict[str, list[int]] = defaultdict(list)
    for boot, seq in keys:
        boots[boot].append(seq)
    return [f"{sign}{boot}:{','.join(_ranges(sorted(seqs)))}" for boot, seqs in boots.items()]


def keys_of(word: str) -> Iterator[Key]:
    """Return the keys of a word."""
    boot, _, listed = word[1:].rpartition(":")
    for part in listed.split(","):
        first, _, last = part.partition("-")
        for seq in range(int(first), int(last or first) + 1):
            yield boot, seq


def count(word: str) -> int:
    """Return how many keys a word names."""
    total = 0
    for part in word.rpartition(":")[2].split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


class ToldLedger:
    """A ledger that tells of every transaction before and after it; everything else is the real one's business."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._say = ledger, say
        self._totals = Totals()
        self.net = 0  # samples kept less messages given up, since the start of this process

    def load(self) -> dict[str, bytes]:
        """Return every key."""
        found = self._ledger.load()
        self._totals = codec.decode(Totals, found[TOTALS]) if TOTALS in found else Totals()
        return found

    def commit(self, change: Change) -> None:
        """Apply a change, and tell."""
        said = change.puts.get(TOTALS)
        totals = codec.decode(Totals, said) if said else self._totals
        acked, dropped = totals.acked > self._totals.acked, totals.dropped > self._totals.dropped
        line = words("+", (row.key for row in change.add if row.channel == SAMPLE))
        line += words("*", (row.key for row in change.add if row.channel != SAMPLE))
        line += words("?" if acked and dropped else "!" if dropped else "-", change.remove)
        if line:
            self._say(" ".join(["try", *line]))
        try:
            self._ledger.commit(change)
        except BaseException:
            if line:
                self._say("no")
            raise
        if line:
            self._say("ok")
        given_up = len(change.remove) - (totals.acked - self._totals.acked) if dropped else 0
        self.net += sum(row.channel == SAMPLE for row in change.add) - given_up
        self._totals = totals

    def head(self, limit: int) -> list[Row]:
        """Return the rows to send first."""
        return self._ledger.head(limit)

    def cheapest(self, limit: int) -> list[Stub]:
        """Return the rows to give up first."""
        return self._ledger.cheapest(limit)

    def stubs(self, keys: Iterable[Key]) -> list[Stub]:
        """Return those of the named rows that exist."""
        return self._ledger.stubs(keys)

    def size(self) -> tuple[int, int]:
        """Return rows and bytes."""
        return self._ledger.size()


@dataclasses.dataclass(slots=True)
class Told:
    """All that a device said of itself, over all its lives."""

    tried: set[Key] = dataclasses.field(default_factory=set)
    samples: set[Key] = dataclasses.field(default_factory=set)
    kept: set[Key] = dataclasses.field(default_factory=set)
    acked: set[Key] = dataclasses.field(default_factory=set)
    given_up: set[Key] = dataclasses.field(default_factory=set)
    either: set[Key] = dataclasses.field(default_factory=set)

    def take(self, line: Sequence[str]) -> None:
        """Take the words of a transaction that was made."""
        for word in line:
            found = {
                "+": self.kept, "*": self.kept, "-": self.acked, "!": self.given_up, "?": self.either
            }[word[0]]  # fmt: skip
            found.update(keys_of(word))


def read(lines: Iterable[str]) -> Told:
    """Return what a device's lines come to. What was removed in a transaction without an answer counts as `either`."""
    told, pending = Told(), list[str]()

    def unsure() -> None:
        for word in pending:
            if word[0] in "-!?":
                told.either.update(keys_of(word))

    for line in lines:
        verb, *rest = line.split()
        if verb == "try":
            unsure()
            pending = rest
            for word in rest:
                if word[0] in "+*":
                    told.tried.update(keys_of(word))
                if word[0] == "+":
                    told.samples.update(keys_of(word))
        elif verb == "ok":
            told.take(pending)
            pending = []
        elif verb == "no":
            pending = []
    unsure()
    return told


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """One device when all is over. Samples and other messages count alike, but for `samples`, `stored` and `spooled`.

    `lost`: kept, and neither stored nor spooled nor given up; `forged`: stored, and never kept; `uncounted`: given up
    without being counted by the device.
    """

    samples: int
    stored: int
    spooled: int
    given_up: int
    lost: tuple[Key, ...]
    forged: tuple[Key, ...]
    uncounted: int


def settle(told: Told, stored: set[Key], spooled: set[Key], dropped: int) -> Account:
    """Compare a device's word with the fleet's store, the device's own spool and its own count of what it dropped."""
    gone = told.kept - stored - spooled
    given_up = gone & (told.given_up | told.either)
    lost = (gone - given_up) | ((told.acked - told.either) - stored)
    return Account(
        samples=len(told.kept & told.samples),
        stored=len(stored & told.samples),
        spooled=len((spooled & told.samples) - stored),
        given_up=len(given_up & told.samples),
        lost=tuple(sorted(lost)),
        forged=tuple(sorted(stored - told.tried)),
        uncounted=max(0, len(given_up) - dropped),
    )


def _ranges(seqs: Sequence[int]) -> Iterator[str]:
    first = last = seqs[0]
    for seq in [*seqs[1:], -1]:
        if seq != last + 1:
            yield str(first) if first == last else f"{first}-{last}"
            first = seq
        last = seq
