"""A network for anyone: each device reaches the broker through a lossy TCP proxy on loopback.

TCP hides lost packets: what its user sees of them is waiting (a retransmission comes after 200 ms, then 400 ms) and, in
the end, a broken connection. So a lost chunk is a late chunk here, with all that follow it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Sequence

from skerry_simulators.chaos.weather import Weather

CHUNK_BYTES = 1448  # what one packet carries
RESEND_S = 0.2
HELD_S = 0.05  # how often a cut way is tried again


class ProxyNetwork:
    """One listening port a device; all in a thread with an event loop of its own."""

    kind = "proxy"
    host = "127.0.0.1"

    def __init__(self, devices: int, seed: int) -> None:
        """Listen."""
        self._random = random.Random(seed)
        self._weather = {device: Weather() for device in range(1, devices + 1)}
        self._open: dict[int, set[asyncio.StreamWriter]] = {device: set() for device in self._weather}
        self._ports: dict[int, int] = {}
        self._goal = ("", 0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10.0)

    def command(self, device: int, words: Sequence[str]) -> list[str]:
        """Return the command as it is."""
        return list(words)

    def broker(self, device: int, host: str, port: int) -> tuple[str, int]:
        """Return the proxy's address for a device, and remember the broker's."""
        self._goal = (host, port)
        return self.host, self._ports[device]

    def set(self, device: int, weather: Weather) -> None:
        """Let a device's bytes fare so from now on."""
        self._loop.call_soon_threadsafe(self._set, device, weather)

    def close(self) -> None:
        """End the connections and the thread."""

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    def _set(self, device: int, weather: Weather) -> None:
        self._weather[device] = weather
        if weather.reset:
            for writer in self._open[device]:
                _reset(writer)

    async def _listen(self) -> None:
        for device in self._weather:

            async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, device: int = device) -> None:
                await self._serve(device, reader, writer)

            server = await asyncio.start_server(take, self.host, 0)
            self._ports[device] = int(server.sockets[0].getsockname()[1])

    async def _serve(self, device: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        self._open[device].add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            back, onward = await asyncio.open_connection(*self._goal)
            ways = (self._carry(device, reader, onward, up=True), self._carry(device, back, writer, up=False))
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            return  # no broker there now
        finally:
            self._open[device].discard(writer)
            for each in (writer, onward):
                if each is not None:
                    each.close()

    async def _carry(
        self, device: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        while data := await reader.read(16 * CHUNK_BYTES):
            weather, wait_s = self._weather[device], 0.0
            if weather.reset:
                _reset(writer)
                return
            # What follows a lost packet tells of it, and it comes at once; the last of a flight, or one that is lost
            # again, has to wait for the timer, which doubles.
            lost = sum(self._random.random() < weather.loss for _ in range(0, len(data) - CHUNK_BYTES, CHUNK_BYTES))
            late = any(self._random.random() < weather.loss for _ in range(lost + 1))
            while late:
                wait_s, late = wait_s * 2 + RESEND_S, self._random.random() < weather.loss
            await asyncio.sleep(wait_s)
            while not (self._weather[device].up if up else self._weather[device].down):
                await asyncio.sleep(HELD_S)
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
