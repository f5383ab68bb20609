"""The connections of one process's devices: raw descriptors in one epoll, a few slots a device.

220 bytes and 50 µs of processor time a connection, where a client library takes from 2 to 36 kB
(compare the MQTT clients of asyncio, paho and others). TLS costs what TLS costs: 33 kB a device.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from collections import deque
from collections.abc import Iterable, Sequence

from skerry_contracts import topics
from skerry_fleet import placement
from skerry_simulators.catalogue import TENANT
from skerry_simulators.swarm import wire
from skerry_simulators.swarm.lines import Broken, Secure, open_line
from skerry_simulators.swarm.mind import ASKING, AWAY, GREETED, OPENING, READY, Device, Mind

KEEPALIVE_S = 900
READ_BYTES = 65536


class Crowd:
    """All connections of one process. Call `turn` for ever."""

    def __init__(
        self, devices: Sequence[Device], ports: Sequence[int], mind: Mind, credentials: str = "", at_once: int = 40
    ) -> None:
        self.devices = devices
        self.mind = mind
        self._at_once = at_once  # sockets on their way, a shard
        self.back_s = 0.0  # how long after a loss a device comes back; 0: it stays away
        self.ready = 0
        self.lost = 0
        self.refused = 0
        self.last_ready_s = 0.0
        self._ports = ports
        self._credentials = credentials
        self._epoll = select.epoll()
        self._by_fd: dict[int, Device] = {}
        self._secure: dict[int, Secure] = {}
        self._wanted: list[deque[Device]] = [deque() for _ in ports]
        self._opening = [0] * len(ports)
        self._later: list[tuple[float, int]] = []
        self._shard_of = [placement.choose(TENANT, each.name.decode(), len(ports)) for each in devices]
        self._at = {device.number: index for index, device in enumerate(devices)}

    def connect(self, devices: Iterable[Device]) -> None:
        """Let devices connect, as many at a time as a broker's backlog takes."""
        for device in devices:
            if device.state == AWAY:
                self._wanted[self._shard(device)].append(device)

    def drop(self, devices: Iterable[Device]) -> None:
        """End connections as a power cut does: without a DISCONNECT."""
        for device in devices:
            if device.state != AWAY:
                self._close(device, back=False)

    def leave(self) -> None:
        """End all connections in an orderly way: no will is said."""
        for device in self.devices:
            if device.state == READY:
                self.say(device, wire.GOODBYE)
            if device.state != AWAY:
                self._close(device, back=False)

    def watch(self, fd: int) -> None:
        """Let `turn` say when there is something to read from another descriptor."""
        self._epoll.register(fd, select.EPOLLIN)

    def turn(self, wait_s: float) -> list[int]:
        """Do what there is to do, waiting so long for it at most; return watched descriptors that can be read."""
        self._open()
        others = []
        for fd, event in self._epoll.poll(wait_s, 4096):
            device = self._by_fd.get(fd)
            if device is None:
                others.append(fd)
                continue
            try:
                self._handle(device, event)
            except (Broken, ValueError):
                self._close(device, back=True)
        return others

    def say(self, device: Device, data: bytes) -> None:
        """Send bytes, now or when the socket takes them."""
        if device.out:
            device.out += data
            return
        try:
            sent = self._write(device, data)
        except Broken:
            self._close(device, back=True)
            return
        if sent < len(data):
            device.out = data[sent:]
            self._epoll.modify(device.fd, select.EPOLLIN | select.EPOLLOUT)

    def _shard(self, device: Device) -> int:
        return self._shard_of[self._at[device.number]]

    def _open(self) -> None:
        now_s = time.monotonic()
        while self._later and self._later[0][0] <= now_s:
            self.connect([self.devices[heapq.heappop(self._later)[1]]])
        for shard, wanted in enumerate(self._wanted):
            while wanted and self._opening[shard] < self._at_once:
                device = wanted.popleft()
                if device.state != AWAY:
                    continue
                try:
                    fd = open_line(self._ports[shard], device.number)
                except Broken:
                    self._come_back(device, 0.5)
                    continue
                device.fd, device.state, device.rest, device.out = fd, OPENING, b"", b""
                self._by_fd[fd] = device
                self._opening[shard] += 1
                self._epoll.register(fd, select.EPOLLOUT)

    def _handle(self, device: Device, event: int) -> None:
        if device.state == OPENING:
            self._greet(device, event)
            return
        if event & select.EPOLLOUT and device.out:
            waiting, device.out = device.out, b""
            sent = self._write(device, waiting)
            device.out = waiting[sent:]
            if not device.out:
                self._epoll.modify(device.fd, select.EPOLLIN)
        if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            found, device.rest = wire.split(device.rest + self._read(device))
            for first, body in found:
                self._take(device, first, body)

    def _greet(self, device: Device, event: int) -> None:
        """Go on until the CONNECT is sent."""
        if event & (select.EPOLLHUP | select.EPOLLERR):
            raise Broken("refused")
        if self._credentials:
            secure = self._secure.get(device.fd)
            if secure is None:
                files = [
                    f"{self._credentials}/{name}" for name in ("ca.crt", f"{device.number}.crt", f"{device.number}.key")
                ]
                secure = self._secure[device.fd] = Secure(device.fd, files)
            if (shaken := secure.shake()) is not True:
                self._epoll.modify(device.fd, select.EPOLLIN if shaken is None else select.EPOLLOUT)
                return
        self._epoll.modify(device.fd, select.EPOLLIN)
        device.session, device.state = device.session + 1, ASKING
        name = device.name.decode()
        user = None if self._credentials else name.removeprefix("swarm-")
        will = self.mind.will(device)
        hello = wire.hello(name, user, KEEPALIVE_S, topics.topic(TENANT, name, "presence"), will)
        self.say(device, hello)

    def _take(self, device: Device, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == wire.PUBLISH:
            topic, packet_id, payload = wire.message(first, body)
            if packet_id and not device.silent:
                self.say(device, wire.puback(packet_id))
            self.mind.hear(device, topic, payload)
        elif kind == wire.CONNACK:
            if body != b"\0\0":
                self.refused += 1
                raise Broken("refused")
            device.state = GREETED
            self.say(device, wire.listen(f"{topics.ROOT}/{TENANT}/{device.name.decode()}/down/#"))
        elif kind == wire.SUBACK:
            self._opening[self._shard(device)] -= 1
            device.state = READY
            self.ready += 1
            self.last_ready_s = time.time()
            self.mind.greet(device)

    def _read(self, device: Device) -> bytes:
        if self._credentials:
            return self._secure[device.fd].read()
        try:
            data = os.read(device.fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Broken(str(error)) from error
        if not data:
            raise Broken("the broker ended the connection")
        return data

    def _write(self, device: Device, data: bytes) -> int:
        if self._credentials:
            return self._secure[device.fd].write(data)
        try:
            return os.write(device.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Broken(str(error)) from error

    def _close(self, device: Device, back: bool) -> None:
        if device.state == AWAY:
            return
        if device.state == READY:
            self.ready -= 1
            self.lost += back
        else:
            self._opening[self._shard(device)] -= 1
        device.state = AWAY
        del self._by_fd[device.fd]
        self._epoll.unregister(device.fd)
        secure = self._secure.pop(device.fd, None)
        if secure is not None:
            secure.close()
        else:
            os.close(device.fd)
        device.fd = -1
        if back and self.back_s:
            self._come_back(device, self.back_s)

    def _come_back(self, device: Device, after_s: float) -> None:
        # Spread by the device's number: all at once would fill the brokers' backlog again and again.
        jitter = 1 + device.number % 97 / 97
        heapq.heappush(self._later, (time.monotonic() + after_s * jitter, self._at[device.number]))
