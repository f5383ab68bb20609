"""What can go wrong in a false world.

SimulatorError
 └── ViolationError     an invariant does not hold: the finding that a simulation exists for
PowerCut                (a BaseException) the device's power went in the middle of an operation
"""

from __future__ import annotations


class SimulatorError(Exception):
    """Anything a simulation reports. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ViolationError(SimulatorError):
    """An invariant (I1 to I10 of the design's list) does not hold, for one device or for the fleet, at one moment."""

    def __init__(self, invariant: str, who: str, message: str) -> None:
        super().__init__(
            f"{invariant} violated by {who}: {message}", hint="run the same seed again: it replays exactly"
        )
        self.invariant = invariant
        self.who = who


class PowerCut(BaseException):
    """The power went. No `except Exception` of the program may survive it, as nothing survives the real one."""
