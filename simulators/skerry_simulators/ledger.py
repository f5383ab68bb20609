"""The agent's ledger in memory: durable on commit and only then, all of a change or nothing
(`skerry_agent.ledger.Ledger`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from skerry_agent.errors import StorageError
from skerry_agent.ledger import Change, Key, Row, Stub
from skerry_contracts.device import Reason
from skerry_simulators.disk import SimDisk
from skerry_simulators.power import Plug

_ROW_BYTES = 64  # what a database needs for a row besides its payload, roughly


class SimLedger:
    """Keys and spooled rows. It takes its space from the device's disk, so a full disk refuses commits that add."""

    def __init__(self, plug: Plug, disk: SimDisk) -> None:
        self.plug = plug
        self.disk = disk
        self.observer: Callable[[Change], None] | None = None
        self._keys: dict[str, bytes] = {}
        self._rows: dict[Key, Row] = {}
        self._by_priority: dict[int, dict[Key, Row]] = {}
        self._payload_bytes = 0

    def load(self) -> dict[str, bytes]:
        """Return every key."""
        return dict(self._keys)

    def commit(self, change: Change) -> None:
        """Apply a change; when this returns, it survives a power cut.

        Raises:
            StorageError: the disk is full (NO_SPACE) or read-only, or a row is there already (STORAGE); nothing was
                changed.
        """
        self.plug.operation("commit", ",".join(change.puts))
        if self.disk.read_only:
            raise StorageError("ledger: attempt to write a readonly database", hint="check the disk")
        if self.disk.bad is not None and self.disk.bad():
            raise StorageError("ledger: disk I/O error", hint="check the disk")
        more = sum(len(row.payload) + _ROW_BYTES for row in change.add)
        more += sum(len(value) for value in change.puts.values() if value is not None)
        if more and self.disk.free_bytes() < more:
            raise StorageError("ledger: database or disk is full", reason=Reason.NO_SPACE, hint="free some space")
        removed = set(change.remove)
        if any(row.key in self._rows and row.key not in removed for row in change.add):
            raise StorageError("ledger: UNIQUE constraint failed: spool.boot_id, spool.seq")
        for key, value in change.puts.items():
            if value is None:
                self._keys.pop(key, None)
            else:
                self._keys[key] = value
        for name in change.remove:
            self._remove(name)
        for row in change.add:
            self._rows[row.key] = row
            self._by_priority.setdefault(row.priority, {})[row.key] = row
            self._take(len(row.payload) + _ROW_BYTES)
        if self.observer is not None:
            self.observer(change)

    def head(self, limit: int) -> list[Row]:
        """Return the rows to send first: dearest first, then oldest."""
        dearest = sorted(self._by_priority, reverse=True)
        return list(itertools.islice((row for each in dearest for row in self._by_priority[each].values()), limit))

    def cheapest(self, limit: int) -> list[Stub]:
        """Return the rows to give up first: cheapest first, then oldest."""
        rows = (row for each in sorted(self._by_priority) for row in self._by_priority[each].values())
        return [_stub(row) for row in itertools.islice(rows, limit)]

    def stubs(self, keys: Iterable[Key]) -> list[Stub]:
        """Return those of the named rows that exist."""
        return [_stub(self._rows[key]) for key in keys if key in self._rows]

    def size(self) -> tuple[int, int]:
        """Return how many rows there are, and the bytes of their payloads."""
        return len(self._rows), self._payload_bytes - _ROW_BYTES * len(self._rows)

    def _remove(self, name: Key) -> None:
        row = self._rows.pop(name, None)
        if row is not None:
            del self._by_priority[row.priority][name]
            self._take(-len(row.payload) - _ROW_BYTES)

    def _take(self, size_bytes: int) -> None:
        self._payload_bytes += size_bytes
        self.disk.ledger_bytes += size_bytes


def _stub(row: Row) -> Stub:
    return Stub(row.key, row.priority, len(row.payload))
