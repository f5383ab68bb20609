"""What a network does to one device's packets at the moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Weather:
    """`loss` is the share of packets lost, each way; `up` and `down`: whether they pass at all; `reset`: answered with
    a TCP reset.
    """

    loss: float = 0.0
    up: bool = True
    down: bool = True
    reset: bool = False


class Network(Protocol):
    """A fleet and its devices, joined by a network that can be disturbed. Devices count from 1."""

    kind: str
    host: str
    """The address at which fleet and broker listen."""

    def command(self, device: int, words: Sequence[str]) -> list[str]:
        """Return the command line that runs a command where a device is."""

    def broker(self, device: int, host: str, port: int) -> tuple[str, int]:
        """Return the address at which a device finds the broker."""

    def set(self, device: int, weather: Weather) -> None:
        """Let a device's packets fare so from now on."""

    def close(self) -> None:
        """Leave nothing behind."""
