"""Time that only the simulation moves: true time for the world, and what each device believes it is."""

from __future__ import annotations

EPOCH_S = 1_790_000_000.0  # true time at the start of every simulation: 2026-09-21T13:33:20Z


class TrueClock:
    """Seconds since the simulation began, and the true date. Only the event heap moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_s(self) -> float:
        """Return the true time in seconds since 1970."""
        return EPOCH_S + self.now_s


class DeviceClock:
    """A device's clocks: monotonic time starts anew with each boot; wall time is the true one plus an error."""

    def __init__(self, true: TrueClock) -> None:
        self.true = true
        self.error_s = 0.0
        self.boot_s = 0.0

    def boot(self) -> None:
        """Start monotonic time anew."""
        self.boot_s = self.true.now_s

    def wall_s(self) -> float:
        """Return seconds since 1970 as the device believes."""
        return self.true.wall_s() + self.error_s

    def monotonic_s(self) -> float:
        """Return seconds since the device booted."""
        return self.true.now_s - self.boot_s

    def local_minute(self) -> int:
        """Return minutes after midnight by the device's own clock, in UTC."""
        return int(self.wall_s() // 60) % 1440

    def set_wall(self, wall_s: float) -> None:
        """Set the wall clock, rightly or wrongly."""
        self.error_s = wall_s - self.true.wall_s()
