"""The embedded broker's settings: one JSON file, written by `launch.py` and read by `python -m skerry_fleet.broker`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_contracts.topics import MAX_PAYLOAD_BYTES
from skerry_fleet.broker.errors import ConfigurationError

MAX_PACKET_BYTES = MAX_PAYLOAD_BYTES + 4096  # a payload, its topic and its header
FLEET = "fleet"


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Everything the embedded broker is told. `ca`, `certificate` and `key` are paths of PEM files.

    `revoked` is a JSON list of certificates' serial numbers in hex, `journal` where retained messages are
    kept; both may not exist yet.
    """

    host: str
    port: int
    ca: str
    certificate: str
    key: str
    revoked: str
    journal: str
    administrators: tuple[str, ...] = (FLEET,)
    max_packet_bytes: int = MAX_PACKET_BYTES
    max_filters: int = 64  # a connection
    device_buffer_bytes: int = 4 * 1024 * 1024  # unread by a device: beyond it the connection ends
    fleet_buffer_bytes: int = 32 * 1024 * 1024  # unread by the fleet: beyond it publishers have to wait
    hello_s: float = 10.0  # from the first byte to the CONNECT
    max_keepalive_s: int = 3600  # taken in place of 0 or more, so that no dead connection stays for ever

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"{self.port} is no port")
        if min(self.device_buffer_bytes, self.fleet_buffer_bytes) < self.max_packet_bytes:
            raise ConfigurationError("a buffer must hold at least one packet")


def load(path: Path) -> BrokerConfig:
    """Return the settings in a file.

    Raises:
        ConfigurationError: no such file, or not settings.
    """
    try:
        return codec.decode(BrokerConfig, path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror}", hint="start the broker through `skerry fleet serve`"
        ) from error
    except ContractError as error:
        raise ConfigurationError(f"{path}: {error}", hint="start the broker through `skerry fleet serve`") from error
