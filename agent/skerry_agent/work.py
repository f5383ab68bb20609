"""How one decision of the core is gathered before it becomes durable in one transaction."""

from __future__ import annotations

import dataclasses

from skerry_agent.effects import Effect
from skerry_agent.ledger import Key, Row
from skerry_agent.measure_machine import Record as MeasureRecord
from skerry_agent.records import Record
from skerry_agent.shadow_records import Record as ShadowRecord
from skerry_contracts.assignment import Assignment, Receipt
from skerry_contracts.bundle import Blob


@dataclasses.dataclass(slots=True)
class Work:
    """One decision under way: what it writes, tells and asks to be done. Nothing of it counts before `commit`.

    `rows` belong to the decision and are made again with it; `facts` are true whatever becomes of it.
    """

    puts: dict[str, bytes | None] = dataclasses.field(default_factory=dict)
    records: dict[str, Record] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    facts: list[Row] = dataclasses.field(default_factory=list)
    dropped: list[Key] = dataclasses.field(default_factory=list)
    lost: int = 0
    effects: list[Effect] = dataclasses.field(default_factory=list)
    fetching: dict[str, tuple[bytes, tuple[Blob, ...]]] = dataclasses.field(default_factory=dict)
    receipts: dict[str, Receipt | None] = dataclasses.field(default_factory=dict)
    shadows: dict[str, ShadowRecord | None] = dataclasses.field(default_factory=dict)
    measuring: tuple[MeasureRecord | None] | None = None  # None: as it was
    assignment: Assignment | None = None
    floors: dict[str, int] | None = None
    clock_floor_s: float | None = None
    collect: bool = False

    def keep(self, row: Row | None) -> None:
        """Spool a message that is a fact; None (too large for any broker) is counted as lost."""
        if row is None:
            self.lost += 1
        else:
            self.facts.append(row)
