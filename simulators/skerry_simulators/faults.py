"""What goes wrong, and how often: one record of rates; and the names of the bugs that can be planted (`bugs.py`)."""

from __future__ import annotations

import dataclasses

HOUR_S = 3600.0
DAY_S = 86400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Faults:
    """Rates and shares of everything that can go wrong. Shares run from 0 to 1; `*_every_s` are mean times for one
    device.

    `loss` and `duplicate` are of messages, either way; `delay_s` is the mean of an exponential, so messages overtake
    each other. `hostile` is the share of assignments that somebody rewrites or replays on their way. `download_cut`
    and `download_corrupt` are of pieces of a download, `io_error` of reads and writes while the medium is bad.
    `windowed` is the share of rollouts with a maintenance window, which is no fault. Zero or None switches a fault off.
    """

    loss: float = 0.05
    duplicate: float = 0.05
    delay_s: float = 1.0
    hostile: float = 0.03
    download_cut: float = 0.05
    download_corrupt: float = 0.01
    disconnect_every_s: float | None = 3 * HOUR_S
    partition_every_s: float | None = 12 * HOUR_S
    partition_s: float = 0.5 * HOUR_S
    power_cut_every_s: float | None = 8 * HOUR_S
    cut_in_update: float = 0.3
    agent_crash_every_s: float | None = 12 * HOUR_S
    worker_crash_every_s: float | None = 12 * HOUR_S
    wrong_clock_every_s: float | None = 24 * HOUR_S
    full_disk_every_s: float | None = 24 * HOUR_S
    full_disk_s: float = 0.5 * HOUR_S
    read_only_every_s: float | None = 48 * HOUR_S
    read_only_s: float = 0.3 * HOUR_S
    bit_rot_every_s: float | None = 24 * HOUR_S
    io_error_every_s: float | None = 24 * HOUR_S
    io_error_s: float = 0.2 * HOUR_S
    io_error: float = 0.2
    pressure_every_s: float | None = 24 * HOUR_S
    pressure_s: float = 0.1 * HOUR_S
    fleet_restart_every_s: float | None = 3 * HOUR_S
    fleet_mortality: float = 0.005
    bad_release: float = 0.4
    windowed: float = 0.2

    def __post_init__(self) -> None:
        shares = (
            self.loss,
            self.duplicate,
            self.hostile,
            self.download_cut,
            self.download_corrupt,
            self.fleet_mortality,
            self.io_error,
        )
        if not all(0 <= share < 1 for share in shares):
            raise ValueError("shares run from 0 to 1, and something must get through")


NONE = Faults(
    loss=0,
    duplicate=0,
    delay_s=0.05,
    hostile=0,
    download_cut=0,
    download_corrupt=0,
    disconnect_every_s=None,
    partition_every_s=None,
    power_cut_every_s=None,
    cut_in_update=0,
    agent_crash_every_s=None,
    worker_crash_every_s=None,
    wrong_clock_every_s=None,
    full_disk_every_s=None,
    read_only_every_s=None,
    bit_rot_every_s=None,
    io_error_every_s=None,
    pressure_every_s=None,
    fleet_restart_every_s=None,
    fleet_mortality=0,
    bad_release=0,
    windowed=0,
)
"""Nothing goes wrong: what every simulated world becomes at its end, to see that everyone converges (I8)."""

STORM = Faults(
    disconnect_every_s=1 * HOUR_S,
    partition_every_s=4 * HOUR_S,
    power_cut_every_s=3 * HOUR_S,
    agent_crash_every_s=4 * HOUR_S,
    worker_crash_every_s=6 * HOUR_S,
    wrong_clock_every_s=8 * HOUR_S,
    full_disk_every_s=8 * HOUR_S,
    read_only_every_s=12 * HOUR_S,
    bit_rot_every_s=6 * HOUR_S,
    io_error_every_s=8 * HOUR_S,
    pressure_every_s=6 * HOUR_S,
    bad_release=0.15,
    windowed=0.1,
)
"""Three times as much of everything: for worlds that only update."""

BUGS: dict[str, str] = {
    "missing-fsync": "the device's disk ignores fsync: what seemed durable may vanish at a power cut",
    "ack-before-commit": "the fleet acknowledges messages before its transaction has committed",
    "no-dedup": "the fleet stores a redelivered message again",
    "no-inflight-budget": "the fleet's rollout counts only devices that failed, not those still on their way",
}
"""Mistakes that can be planted. A simulation that cannot find them would prove nothing."""
