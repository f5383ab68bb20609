"""A lossy link between one device and the broker, with a broker's manners: sessions, wills, retained assignments,
confirmations.

Messages may be lost, doubled, delayed and overtake each other, in both directions. A message the broker confirmed
(PUBACK) may still never reach the fleet. A session ends at any time; what was on its way down then is gone, what was
on its way up may still arrive. A partition keeps the device from connecting. Somebody on the way may rewrite or
replay assignments.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from skerry_contracts.topics import CHANNELS
from skerry_simulators.faults import Faults
from skerry_simulators.heap import Heap

RECONNECT_S = 5.0
RESEND_S = 5.0
NOTICE_S = 45.0  # 1.5 times the keep-alive: how long a broker waits before it publishes the will


class DeviceEnd(Protocol):
    """What the link tells the device."""

    def on_connected(self) -> None:
        """A session began."""

    def on_disconnected(self, unconfirmed: list[int]) -> None:
        """The session ended; these messages were not confirmed."""

    def on_message(self, channel: str, payload: bytes) -> None:
        """A message came down."""


ToFleet = Callable[[str, str, bytes], None]  # device, channel, payload
Rewrite = Callable[[str, bytes], bytes]  # device, payload: what somebody on the way makes of an assignment


class Link:
    """One device's connection. The owner says when the device is on; the weather says when the network is."""

    def __init__(self, device: str, heap: Heap, rng: random.Random, to_fleet: ToFleet, rewrite: Rewrite) -> None:
        self.device = device
        self.connected = False
        self.session = 0
        self.faults = Faults()
        self.retained: bytes | None = None
        self.will: bytes | None = None
        self._heap = heap
        self._rng = rng
        self._to_fleet = to_fleet
        self._rewrite = rewrite
        self.on_fault: Callable[[str], None] = lambda kind: None
        self._end: DeviceEnd | None = None
        self._partitioned_until_s = 0.0
        self._numbers = 0
        self._unconfirmed: list[int] = []

    def switch_on(self, end: DeviceEnd) -> None:
        """The device has booted: connect when it can be."""
        self._end = end
        self._reconnect()

    def switch_off(self) -> None:
        """The device is off, without a word."""
        self._end = None
        self._broken()

    def drop(self) -> None:
        """End the session; the device notices and comes back."""
        if self.connected:
            self.on_fault("session dropped")
            lost = list(self._unconfirmed)
            self._broken()
            if self._end is not None:
                self._end.on_disconnected(lost)
                self._reconnect()

    def partition(self, seconds: float) -> None:
        """Cut the device off for so long."""
        self._partitioned_until_s = max(self._partitioned_until_s, self._heap.clock.now_s + seconds)
        self.drop()

    def heal(self) -> None:
        """End every partition; every session begins anew."""
        self._partitioned_until_s = 0.0
        if self.connected:
            self.drop()
        elif self._end is not None:
            self._reconnect()

    def publish(self, channel: str, payload: bytes) -> int:
        """Send a message up; returns its number. Confirmation comes by its absence from `on_disconnected`'s list."""
        self._numbers += 1
        number = self._numbers
        if CHANNELS[channel].qos:
            self._unconfirmed.append(number)
        for delay_s in self._fates():
            self._heap.after(delay_s, self._arrive_up, channel, payload, number)
        return number

    def send_down(self, channel: str, payload: bytes) -> None:
        """Publish a message to the device: kept by the broker where the channel is retained, gone where nobody
        listens.
        """
        if CHANNELS[channel].retained:
            self.retained = payload
        if self.connected:
            self._on_the_way_down(channel, payload)

    def _on_the_way_down(self, channel: str, payload: bytes) -> None:
        if channel == "assignment" and self._rng.random() < self.faults.hostile:
            payload = self._rewrite(self.device, payload)
            self.on_fault("assignment rewritten")
        # Within a session a broker's QoS 1 message is late, not lost; with the session, whatever is on its way is gone.
        for delay_s in self._fates() or [self._rng.uniform(RESEND_S, 4 * RESEND_S)]:
            self._heap.after(delay_s, self._arrive_down, self.session, channel, payload)

    def _fates(self) -> list[float]:
        """Return the delays after which the copies of one message arrive: none where it is lost."""
        faults, rng = self.faults, self._rng
        fate = rng.random()
        if fate < faults.loss:
            self.on_fault("message lost")
            return []
        count = 2 if fate > 1 - faults.duplicate else 1
        if count == 2:
            self.on_fault("message doubled")
        return [rng.expovariate(1 / faults.delay_s) for _ in range(count)]

    def _arrive_up(self, channel: str, payload: bytes, number: int) -> None:
        if number in self._unconfirmed:
            self._unconfirmed.remove(number)
        self._to_fleet(self.device, channel, payload)

    def _arrive_down(self, session: int, channel: str, payload: bytes) -> None:
        if self.connected and session == self.session and self._end is not None:
            self._end.on_message(channel, payload)

    def _reconnect(self) -> None:
        wait_s = max(0.0, self._partitioned_until_s - self._heap.clock.now_s)
        self._heap.after(wait_s + self._rng.uniform(0.1, RECONNECT_S), self._connect, self._end)

    def _connect(self, end: DeviceEnd | None) -> None:
        if end is None or end is not self._end or self.connected:
            return
        if self._heap.clock.now_s < self._partitioned_until_s:
            self._reconnect()
            return
        self.connected = True
        self.session += 1
        end.on_connected()
        if self.connected and self.retained is not None:
            self._on_the_way_down("assignment", self.retained)

    def _broken(self) -> None:
        if self.connected:
            self.connected = False
            self._unconfirmed.clear()
            if self.will is not None:
                self._heap.after(self._rng.uniform(0, NOTICE_S), self._to_fleet, self.device, "presence", self.will)
