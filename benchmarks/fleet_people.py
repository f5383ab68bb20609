"""What people wait for (benchmarks/fleet.py): lists while messages come, events, pages. A full fleet, as it is served.

The device list is asked for at fixed times, whether earlier answers have come or not, and each answer's time runs from
the moment it was due: a server that falls behind cannot hide it (open loop; Schroeder et al., NSDI 2006).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
import re
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from benchmarks.fleet_full import furnish
from benchmarks.fleet_load import TALKERS
from benchmarks.fleet_options import Options
from tests.fleet.dashboard.chromium import chromium
from tests.fleet.dashboard.conftest import sign_in

from skerry_contracts import names
from skerry_fleet.swarm import device_name
from skerry_simulators.swarm.ground import Ground
from skerry_simulators.swarm.team import Team

ROWS = 50
ASKED_PER_S = 200
MESSAGES_PER_S = 5000
ASK_S = 20.0
CONNECTIONS = 64
WATCHERS = 1000
EVENTS = 15
PATIENCE_S = 60.0


@contextlib.contextmanager
def served(devices: int, shards: int = 1) -> Iterator[Ground]:
    """Give a fleet of so many devices with models, sites, a rollout under way and weeks of history, and serve it."""
    with tempfile.TemporaryDirectory(prefix="skerry-bench-", ignore_cleanup_errors=True) as made:
        ground = Ground(Path(made) / "fleet", shards, {"silent_after_s": 3600})
        ground.admit(devices)
        furnish(ground.root, devices, shards)
        with ground.running():
            yield ground


def key_of(ground: Ground) -> str:
    """Return the admin's key."""
    return (ground.root / "admin.key").read_text("ascii").strip()


@dataclasses.dataclass(slots=True)
class Line:
    """One connection that stays open, and asks one thing after the other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(head.split(b" ", 2)[1]), await self.reader.readexactly(length)


def _request(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: fleet\r\nauthorization: Bearer {key}\r\n\r\n".encode()


def _place(ground: Ground) -> tuple[str, int]:
    host, _, port = ground.url.removeprefix("http://").rpartition(":")
    return host, int(port)


async def ask_on(ground: Ground, devices: int, per_s: float, seconds: float) -> list[float]:
    """Ask for pages of the device list at fixed times; return how long each took from when it was due, in ms."""
    key, draw = key_of(ground), random.Random(5)
    lines: asyncio.Queue[Line] = asyncio.Queue()  # each in its turn: one that idles is closed after seconds
    for _ in range(CONNECTIONS):
        lines.put_nowait(Line(*await asyncio.open_connection(*_place(ground))))
    loop, found = asyncio.get_running_loop(), []

    async def one(due_s: float) -> None:
        after = device_name(draw.randrange(devices - ROWS - 1))
        line = await lines.get()
        status, body = await line.ask(_request(f"/api/v1/devices?limit={ROWS}&after={after}", key))
        found.append(1000 * (loop.time() - due_s))
        if status != 200 or body.count(b'"last_seen_ms"') != ROWS:
            raise RuntimeError(f"the list answered {status}: {body[:200]!r}")
        lines.put_nowait(line)

    async with asyncio.TaskGroup() as group:
        begin_s = loop.time() + 0.1
        for turn in range(int(per_s * seconds)):
            due_s = begin_s + turn / per_s
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            group.create_task(one(due_s))
    while not lines.empty():
        lines.get_nowait().writer.close()
    return sorted(found)


def lists(options: Options) -> dict[str, float]:
    """Return the times of pages of the device list while the swarm talks, and what came in meanwhile."""
    with served(options.devices, shards=2) as ground:
        boot = names.new_boot_id(1, secrets.token_bytes(4))
        talkers = min(TALKERS, options.devices)
        with Team(talkers, 1, ground.ports, boot) as team:
            team.order("connect", back_s=2.0)
            team.until(lambda now: now["ready"] == talkers, options.limit_s, "all are connected")
            total = int(MESSAGES_PER_S * (ASK_S + 4))
            team.order("flow", rate=MESSAGES_PER_S, burst=2, total=total, window=20_000)
            time.sleep(2.0)  # the load is there before the first question
            before, began_s, manager = team.look(), time.time(), ground.processor_s()[0]
            found = asyncio.run(ask_on(ground, options.devices, ASKED_PER_S, ASK_S))
            after, took_s = team.look(), time.time() - began_s
            used = ground.processor_s()[0] - manager
            team.until(lambda now: now["made"] >= total and not now["pending"], options.limit_s, "all acknowledged")
    return {
        "list_p99_ms": found[int(len(found) * 0.99)],
        "list_p50_ms": found[len(found) // 2],
        "list_messages_per_s": (after["acked"] - before["acked"]) / took_s,
        "list_manager_cpu": used / took_s,
    }


async def watch(ground: Ground, path: str, headers: str, count: int, rounds: int) -> list[float]:
    """Open so many streams, tell one thing after the other; return how long until the last had heard, in ms."""
    host, port = _place(ground)
    readers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: fleet\r\n{headers}\r\n\r\n".encode())
        readers.append((reader, writer))
    for reader, _ in readers:
        head = await reader.readuntil(b"skerry")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path} answered {head[:100]!r}")
    teller = Line(*await asyncio.open_connection(host, port))
    loop, found = asyncio.get_running_loop(), []

    async def listen(reader: asyncio.StreamReader) -> None:
        while True:
            await reader.readuntil(b"drift")
            heard_s.append(loop.time())

    heard_s: list[float] = []
    tasks = [asyncio.create_task(listen(reader)) for reader, _ in readers]
    try:
        for turn in range(rounds):
            await asyncio.sleep(0.8)  # more than the hub's pause between two bursts
            heard_s.clear()
            body = json.dumps({"monitor": "bench", "drifting": False, "score": turn / 100, "threshold": 0.9}).encode()
            began_s = loop.time()
            status, said = await teller.ask(
                f"PUT /api/v1/models/digits/drift HTTP/1.1\r\nhost: fleet\r\nauthorization: Bearer {key_of(ground)}\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            if status != 200:
                raise RuntimeError(f"a verdict answered {status}: {said[:200]!r}")
            async with asyncio.timeout(PATIENCE_S):
                while len(heard_s) < count:
                    await asyncio.sleep(0.002)
            found.append(1000 * (max(heard_s) - began_s))
    finally:
        for task in tasks:
            task.cancel()
        for _, writer in readers:
            writer.close()
    return sorted(found)


def sse(options: Options) -> dict[str, float]:
    """Return how long it takes until the last of a thousand open dashboards, or of as many programs, hears an event."""
    with served(1000) as ground:
        return asyncio.run(_streams(ground))


async def _streams(ground: Ground) -> dict[str, float]:
    key = key_of(ground)
    api = await watch(ground, "/api/v1/events", f"authorization: Bearer {key}\r\n", WATCHERS, EVENTS)
    with httpx.Client(base_url=ground.url, trust_env=False) as client:
        sign_in(client, key)
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    pages = await watch(ground, "/ui/events", f"cookie: {cookies}\r\n", WATCHERS, EVENTS)
    return {
        "sse_1000_ms": max(statistics.median(each) for each in (api, pages)),
        "sse_1000_api_ms": statistics.median(api),
        "sse_1000_pages_ms": statistics.median(pages),
        "sse_1000_worst_ms": max(*api, *pages),
    }


PAINTS = {"overview": "/ui/", "devices": "/ui/devices", "rollout": "/ui/rollouts/{rollout}"}
ROUNDS = 5
PAINTED = """(async () => {
  const said = (type) => new Promise((resolve) => new PerformanceObserver((list) => resolve(
    list.getEntries().at(-1).startTime)).observe({type, buffered: true}));
  return [await said('paint'), await said('largest-contentful-paint')];
})()"""


def paint(options: Options) -> dict[str, float]:
    """Return when pages of a full fleet are painted in a browser that has never been here, the slowest of them."""
    with served(options.devices) as ground, tempfile.TemporaryDirectory() as profile:
        with chromium(Path(profile)) as browser, httpx.Client(base_url=ground.url, trust_env=False) as client:
            sign_in(client, key_of(ground))
            for name, value in client.cookies.items():
                browser.call("Network.setCookie", name=name, value=value, url=f"{ground.url}/ui/")
            browser.call("Network.setCacheDisabled", cacheDisabled=True)
            browser.look(1280)
            rollout = re.findall(r"/ui/rollouts/(r[\w-]+)", client.get("/ui/rollouts").text)[0]
            found: dict[str, float] = {}
            for name, page in PAINTS.items():
                times = []
                for _ in range(ROUNDS):
                    browser.go("about:blank")
                    browser.go(ground.url + page.format(rollout=rollout))
                    times.append(max(browser.run(PAINTED)))
                found[f"paint_{name}_s"] = statistics.median(times) / 1000
    return {"dashboard_paint_s": max(found.values()), **found}
