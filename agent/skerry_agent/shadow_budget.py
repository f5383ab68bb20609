"""What a shadow may cost, as plain arithmetic: a purse of processor time, and a gate for heat, battery and memory."""

from __future__ import annotations

import dataclasses
from typing import Protocol

FULL_S = 60.0  # a purse holds at most what this much time brings
DEBT_S = 3600.0  # and owes at most what this much time brings, so that no debt lasts longer
COOLER_C = 5.0
CHARGED = 0.05
SCARCE, PLENTY = 0.10, 0.15  # of the memory available: closes below, opens above


class CpuPurse:
    """A token bucket of processor time (RFC 2697's single-rate meter, with debt): it fills by `share` seconds a second.

    What a candidate uses is known only afterwards, so the purse may fall below zero; then nothing is asked of it until
    it has filled up again. On the long run it uses no more than its share, its start included.

    >>> purse = CpuPurse(0.1, 0.0)
    >>> purse.spend(3.0, 0.0)
    >>> purse.open(19.0), purse.open(31.0)
    (False, True)
    """

    def __init__(self, share: float, now_s: float) -> None:
        self.share = share
        self._filled_s = now_s
        self._left_s = 0.0

    def spend(self, cpu_s: float, now_s: float) -> None:
        """Take what was used."""
        self._fill(now_s)
        self._left_s = max(self._left_s - max(cpu_s, 0.0), -self.share * DEBT_S)

    def open(self, now_s: float) -> bool:
        """Return whether there is something left to use."""
        self._fill(now_s)
        return self._left_s > 0

    def _fill(self, now_s: float) -> None:
        passed_s, self._filled_s = max(now_s - self._filled_s, 0.0), now_s
        self._left_s = min(self._left_s + self.share * passed_s, self.share * FULL_S)


class Bounds(Protocol):
    """From which heat on, and below which share of a battery, nothing runs."""

    @property
    def max_c(self) -> float:
        """Degrees Celsius."""

    @property
    def min_battery(self) -> float:
        """From 0 to 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class Readings:
    """The device at one moment. `temperature_c` None: no sensor; `battery` None: none, or it does not discharge.

    `available` is the share of the machine's memory that programs can still have; `busy` says in words why a candidate
    must not be in memory at all (empty: it may).
    """

    temperature_c: float | None = None
    battery: float | None = None
    available: float = 1.0
    busy: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Why a candidate is not asked now (empty: it is), and whether its worker leaves the memory meanwhile."""

    why: str = ""
    leave: bool = False


class Gate:
    """Opens and closes with the readings; what it closed for must be better by a margin before it opens again."""

    def __init__(self) -> None:
        self._hot = self._low = self._scarce = False

    def see(self, readings: Readings, terms: Bounds) -> Verdict:
        """Return the verdict on these readings; leaving the memory comes before mere waiting."""
        temperature_c, battery = readings.temperature_c, readings.battery
        if temperature_c is not None:
            self._hot = temperature_c >= terms.max_c - (COOLER_C if self._hot else 0.0)
        self._low = battery is not None and battery < terms.min_battery + (CHARGED if self._low else 0.0)
        self._scarce = readings.available < (PLENTY if self._scarce else SCARCE)
        if readings.busy:
            return Verdict(readings.busy, leave=True)
        if self._scarce:
            return Verdict(f"{readings.available:.0%} of the memory is available", leave=True)
        if self._hot and temperature_c is not None:
            return Verdict(f"{temperature_c:.0f} degrees Celsius, {terms.max_c:g} allowed")
        if self._low and battery is not None:
            return Verdict(f"on battery, {battery:.0%} left")
        return Verdict()
