"""What can go wrong with a broker process.

BrokerError
 ├── ConfigurationError    settings that cannot be used: a missing file, an impossible limit
 ├── PortTakenError        another program has the port
 └── StartError            the broker ended or did not answer in time; its log says why
"""

from __future__ import annotations


class BrokerError(Exception):
    """Something about the broker is wrong. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(BrokerError):
    """The settings cannot be used."""


class PortTakenError(BrokerError):
    """The port is not free."""


class StartError(BrokerError):
    """The broker did not come up."""
