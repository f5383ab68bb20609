"""What can go wrong between two MQTT programs.

MqttError
 ├── ProtocolError          the other side's bytes are not MQTT 3.1.1, or not in our profile
 │    ├── TooLargeError     a packet longer than agreed; seen from its header, before its body is read
 │    └── VersionError      a CONNECT of another protocol version
 ├── RefusedError           the broker answered CONNECT with a refusal, or SUBSCRIBE with failure
 └── ConnectionLostError    the connection could not be made, ended, or fell silent
"""

from __future__ import annotations


class MqttError(Exception):
    """Something between two MQTT programs went wrong. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ProtocolError(MqttError):
    """The other side's bytes break the protocol; the connection must end."""


class TooLargeError(ProtocolError):
    """A packet is longer than this side accepts."""


class VersionError(ProtocolError):
    """A CONNECT names a protocol version other than 3.1.1."""


class RefusedError(MqttError):
    """The broker said no."""


class ConnectionLostError(MqttError):
    """There is no connection any more, or there never was one."""
