"""What can be wrong with a target.

TargetError
 ├── ProfileError          a profile file that breaks the schema or promises the impossible
 └── UnknownTargetError    no profile of that name
"""

from __future__ import annotations


class TargetError(Exception):
    """Something about a target. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ProfileError(TargetError):
    """A profile breaks the schema or promises the impossible; the message names file and field."""


class UnknownTargetError(TargetError):
    """No profile has this name; the hint names the nearest."""
