"""Predictions that a program on the device asked to keep, by the program's own ids, and what became of each.

    buffered      chosen; written with the next samples, within half a second (lost with the power until then)
    kept          durable on the device, waits for the fleet
    acknowledged  the fleet has it (the device may forget it)
    dropped       given up, with the reason

Every change is written in the transaction that makes it true. The ledger keeps the newest thousand ids.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum

from skerry_agent.errors import RequestError
from skerry_agent.hooks import Prediction
from skerry_agent.ledger import UNMIRRORED, Key
from skerry_agent.spool import Plan
from skerry_contracts import codec

KIND = f"{UNMIRRORED}-capture"
MOST = 1000
RECENT_BYTES = 1024 * 1024
FULL = "the spool is full"
REFUSED = "no broker takes a message of its size"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


class State(StrEnum):
    """What became of a capture."""

    BUFFERED = "buffered"
    KEPT = "kept"
    ACKNOWLEDGED = "acknowledged"
    DROPPED = "dropped"


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """One capture: the message it became (`seq` 0: none), and its state."""

    model: str
    prediction: str
    boot_id: str
    seq: int
    state: State
    reason: str = ""


class Captures:
    """All captures by id, and the predictions that can still be captured afterwards."""

    def __init__(self) -> None:
        self.recent = Recent()
        self._found: dict[str, Capture] = {}
        self._ids: dict[Key, str] = {}
        self._unwritten: set[str] = set()

    def load(self, stored: Iterable[tuple[str, bytes]]) -> None:
        """Take up what the ledger holds, oldest first."""
        found = [(name, codec.decode(Capture, value)) for name, value in stored]
        for name, each in sorted(found, key=lambda pair: (pair[1].boot_id, pair[1].seq)):
            self._take(name, each)

    def check(self, name: str) -> None:
        """Check that an id is one, and new.

        Raises:
            RequestError: 400 no id, 409 used before.
        """
        check_id(name)
        if name in self._found:
            raise RequestError(f"capture {name!r} exists already", status=409, hint=f"GET /skerry/capture/{name}")

    def get(self, name: str) -> Capture | None:
        """Return a capture; None where none has that id (any more)."""
        return self._found.get(name)

    def begin(self, name: str, prediction: Prediction, key: Key) -> None:
        """Take note that a prediction's sample was buffered for a capture."""
        self._take(name, Capture(prediction.model, prediction.id, *key, State.BUFFERED))
        self._unwritten.add(name)

    def drop(self, name: str, prediction: Prediction, boot_id: str, reason: str) -> None:
        """Take note that a capture comes to nothing."""
        self._take(name, Capture(prediction.model, prediction.id, boot_id, 0, State.DROPPED, reason))
        self._unwritten.add(name)

    def puts(self, plan: Plan, undeliverable: Sequence[Key]) -> dict[str, bytes | None]:
        """Return the keys to write together with a plan of the spool."""
        changed: dict[str, bytes | None] = {
            f"{KIND}:{name}": codec.encode(each) for name, each in self._after(plan, undeliverable).items()
        }
        return {**changed, **dict.fromkeys((f"{KIND}:{name}" for name in self._surplus()), None)}

    def settle(self, plan: Plan, undeliverable: Sequence[Key]) -> None:
        """Take note that a plan is durable."""
        for name, each in self._after(plan, undeliverable).items():
            self._take(name, each)
        for name in self._surplus():
            self._forget(name)
        self._unwritten.clear()

    def _after(self, plan: Plan, undeliverable: Sequence[Key]) -> dict[str, Capture]:
        """Return what changes with a plan."""
        if not self._unwritten and not (self._ids and plan.remove):
            return {}
        added, acked, refused = {row.key for row in plan.add}, set(plan.acked), set(undeliverable)
        changed: dict[str, Capture] = {}
        for name in self._unwritten:
            each = self._found[name]
            if each.state is State.DROPPED:
                changed[name] = each
            elif (each.boot_id, each.seq) in added:
                changed[name] = dataclasses.replace(each, state=State.KEPT)
            else:
                changed[name] = dataclasses.replace(each, state=State.DROPPED, reason=FULL)
        for key in plan.remove:
            if (name := self._ids.get(key, "")) and name not in self._unwritten:
                each = self._found[name]
                if key in acked:
                    changed[name] = dataclasses.replace(each, state=State.ACKNOWLEDGED)
                else:
                    reason = REFUSED if key in refused else FULL
                    changed[name] = dataclasses.replace(each, state=State.DROPPED, reason=reason)
        return changed

    def _surplus(self) -> list[str]:
        """Return the oldest ids beyond the limit, those that still wait excepted."""
        over = len(self._found) - MOST
        if over <= 0:
            return []
        ended = (State.ACKNOWLEDGED, State.DROPPED)
        old = [name for name, each in self._found.items() if each.state in ended and name not in self._unwritten]
        return old[:over]

    def _take(self, name: str, each: Capture) -> None:
        self._found[name] = each
        if each.seq:
            self._ids[each.boot_id, each.seq] = name

    def _forget(self, name: str) -> None:
        each = self._found.pop(name)
        self._ids.pop((each.boot_id, each.seq), None)


class Recent:
    """The last predictions with their tensors, as far as a mebibyte reaches; none whose caller forbade keeping it."""

    def __init__(self, limit_bytes: int = RECENT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept: deque[tuple[int, Prediction]] = deque()
        self._bytes = 0

    def add(self, prediction: Prediction) -> None:
        """Remember a prediction, and forget the oldest where there is no room."""
        if not prediction.keep:
            return
        size = 1024 + sum(len(each.data or b"") for each in (*prediction.inputs, *prediction.outputs))
        self._kept.append((size, prediction))
        self._bytes += size
        while self._bytes > self._limit_bytes:
            self._bytes -= self._kept.popleft()[0]

    def find(self, name: str) -> Prediction:
        """Return a prediction by its id.

        Raises:
            RequestError: 404, it is not remembered.
        """
        for _, prediction in reversed(self._kept):
            if prediction.id == name:
                return prediction
        raise RequestError(
            f"the tensors of prediction {name!r:.160} are not here (any more)",
            status=404,
            hint='ask for the inference with the parameter "capture", or send the tensors',
        )


def check_id(name: str) -> None:
    """Check a capture's id.

    Raises:
        RequestError: 400, it is none.
    """
    if not _ID.fullmatch(name):
        raise RequestError(
            f"{name!r:.80} is no capture's id", hint="1 to 128 letters, digits and _ . : -, a letter or digit first"
        )
