"""One client's side of the broker, without I/O: what it may do, what it wants, and what waits to be sent to it."""

from __future__ import annotations

from collections import deque

from skerry_fleet.broker.access import Rights
from skerry_fleet.mqtt import packets
from skerry_fleet.mqtt.codec import Decoder
from skerry_fleet.mqtt.packets import Will


class Session:
    """A connection from its certificate to its end. Sessions are always clean: nothing outlives the connection."""

    __slots__ = (
        "buffer_limit_bytes",
        "decoder",
        "ending",
        "greeted",
        "held_back",
        "identity",
        "in_flight",
        "keepalive_s",
        "next_id",
        "out",
        "out_bytes",
        "rights",
        "seen_s",
        "subscriptions",
        "waits_for",
        "will",
    )

    def __init__(
        self, identity: str, rights: Rights, max_packet_bytes: int, buffer_limit_bytes: int, now_s: float
    ) -> None:
        self.identity = identity
        self.rights = rights
        self.buffer_limit_bytes = buffer_limit_bytes
        self.decoder = Decoder(packets.TO_BROKER, max_packet_bytes)
        self.greeted = False  # it has said CONNECT, and we have said yes
        self.ending = ""  # why the connection is to be closed, once `out` is sent
        self.will: Will | None = None
        self.keepalive_s = 0
        self.seen_s = now_s
        self.subscriptions: set[str] = set()
        self.out: deque[bytes] = deque()
        self.out_bytes = 0  # in `out`, and in the socket's own remainder
        self.in_flight: set[int] = set()
        self.next_id = 0
        self.held_back: set[Session] = set()  # publishers that wait until this one has read
        self.waits_for = 0  # how many such readers this one waits for

    def send(self, data: bytes) -> None:
        """Put bytes into the queue to the client."""
        self.out.append(data)
        self.out_bytes += len(data)

    def gather(self, size_bytes: int) -> bytes:
        """Take about so many bytes, at least one packet, from the queue, which is not empty."""
        parts = [self.out.popleft()]
        gathered = len(parts[0])
        while self.out and gathered < size_bytes:
            parts.append(self.out.popleft())
            gathered += len(parts[-1])
        return b"".join(parts)

    def new_id(self) -> int:
        """Return a packet id that is not under way, 0 if there is none left."""
        for _ in range(packets.MAX_TEXT_BYTES):
            self.next_id = self.next_id % 65535 + 1
            if self.next_id not in self.in_flight:
                self.in_flight.add(self.next_id)
                return self.next_id
        return 0
