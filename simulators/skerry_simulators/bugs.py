"""The planted bugs: seams of the real program, wrapped so that they do wrong. The program itself has no such switch."""

from __future__ import annotations

from skerry_simulators.disk import SimDisk


class CarelessDisk(SimDisk):
    """`missing-fsync`: what should be durable stays in a cache."""

    def fsync(self, path: str) -> None:
        """Say yes and do nothing."""
        self.plug.operation("fsync", path)
