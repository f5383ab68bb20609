"""The plug: counts a device's durable operations and pulls the power before a chosen one."""

from __future__ import annotations

from skerry_simulators.errors import PowerCut


class Plug:
    """Every mutating operation of a device's disk and ledger passes here first; `cut_at` is the count that never
    happens.

    The operation that is cut has not begun; what came before it and was not synced may still be lost, whole or torn,
    so cutting before each operation in turn covers the moments in between.
    """

    def __init__(self) -> None:
        self.operations = 0
        self.cut_at: int | None = None
        self.trace: list[str] | None = None

    def operation(self, kind: str, what: str) -> None:
        """Count one operation.

        Raises:
            PowerCut: this is the one.
        """
        self.operations += 1
        if self.trace is not None:
            self.trace.append(f"{kind} {what}")
        if self.operations == self.cut_at:
            self.cut_at = None
            self.pull(f"{kind} {what}")

    def pull(self, last: str) -> None:
        """Pull the power, before this operation."""
        raise PowerCut(last)

    def cut_in(self, operations: int) -> None:
        """Pull the power before the n-th operation from now, 1 being the next."""
        self.cut_at = self.operations + operations
