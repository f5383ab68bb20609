"""The whole fleet process with its embedded broker, and devices that speak real MQTT over TLS."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from fastapi import FastAPI
from tests.fleet.conftest import admin, enrolment_body, make_bundle, new_key

from skerry_contracts import codec, topics
from skerry_contracts.assignment import Assignment, Envelope
from skerry_contracts.device import Ack, Heartbeat, ModelHealth, ModelState, Phase, Presence, Progress, SpoolHealth
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.mqtt.client import Client, tls_context
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.mqtt.packets import Publish, Will

BOOT = "00000001-00000001"
DEADLINE_S = 60.0


class Device:
    """A device that installs whatever it is assigned, at once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.seq = 0
        self.acked: set[int] = set()
        self.running: str | None = None
        self.adopted = 0
        self.inbox: asyncio.Queue[Publish] = asyncio.Queue()
        self.link: Client | None = None

    def enrol(self, http: httpx.Client, token: str) -> None:
        key = new_key()
        answer = http.post("/device/v1/enrol", json=enrolment_body(token, self.name, key)).json()
        self.port = answer["broker_port"]
        self.folder.mkdir()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "key").write_bytes(pem)
        (self.folder / "crt").write_text(answer["certificate_pem"])
        (self.folder / "ca").write_text(codec.parse_json(http.get("/device/v1/trust").content)["ca_pem"])

    async def connect(self, session: int) -> None:
        context = tls_context(*(str(self.folder / name) for name in ("ca", "crt", "key")))
        will = Will(self.topic("presence"), codec.encode(Presence(BOOT, session, False)), 1, False)
        self.link = await Client.connect(
            "127.0.0.1",
            self.port,
            client_id=f"default/{self.name}",
            on_message=self.inbox.put_nowait,
            tls=context,
            will=will,
        )
        await self.link.subscribe(f"skerry/1/default/{self.name}/down/#")
        await self.say("presence", Presence(BOOT, session, True))

    def topic(self, channel: str) -> str:
        return topics.topic("default", self.name, channel)

    async def say(self, channel: str, record: Any) -> None:
        assert self.link is not None
        await self.link.publish(self.topic(channel), codec.encode(record), qos=1)

    def next(self) -> int:
        self.seq += 1
        return self.seq

    async def beat(self) -> None:
        models: tuple[ModelHealth, ...] = ()
        if self.running:
            models = (ModelHealth("digits", "1", self.running, "v", ModelState.SERVING, 1, 0, 0, 1.0, 1.0, 1),)
        spool = SpoolHealth(0, 0, 0, 0, 0)
        await self.say("heartbeat", Heartbeat(BOOT, self.next(), 0.0, 1.0, self.adopted, models, spool, 1, 1))

    async def live(self) -> None:
        """Take messages for ever."""
        while True:
            message = await self.inbox.get()
            if message.topic.endswith("/ack"):
                for received in codec.decode(Ack, message.payload).received:
                    self.acked |= set(received.seqs)
                continue
            assignment = codec.decode(Assignment, codec.decode(Envelope, message.payload).payload)
            if assignment.sequence <= self.adopted:
                continue
            self.adopted = assignment.sequence
            for model in assignment.models:
                self.running = model.bundle
                step = (assignment.sequence, model.rollout, "digits", model.bundle, Phase.COMMITTED)
                await self.say("progress", Progress(BOOT, self.next(), 0.0, *step))
            await self.beat()


async def eventually(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await asyncio.to_thread(true):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


@pytest.fixture
def live(tmp_path: Path) -> FastAPI:
    import random
    import time

    config = FleetConfig(root=tmp_path / "fleet", broker="embedded", tick_s=0.1)
    return create_app(config, time.time, random.Random(1).randbytes)


async def households(http: httpx.Client, folder: Path, count: int) -> AsyncIterator[Device]:
    token = http.post("/api/v1/claims", json={"uses": count}).json()["token"]
    for number in range(count):
        device = Device(f"d{number}", folder / f"d{number}")
        await asyncio.to_thread(device.enrol, http, token)
        yield device


def test_a_rollout_over_the_wire_survives_the_brokers_death(live: FastAPI, tmp_path: Path) -> None:
    with admin(live) as http:
        asyncio.run(_rollout(live, http, tmp_path))


async def _rollout(live: FastAPI, http: httpx.Client, folder: Path) -> None:
    def get(path: str) -> Any:
        return http.get(f"/api/v1{path}").json()

    await eventually(lambda: http.get("/readyz").status_code == 200, "the fleet is at its broker")
    devices = [device async for device in households(http, folder, 4)]
    tasks = []
    for device in devices[:3]:
        await device.connect(1)
        await device.beat()
        tasks.append(asyncio.create_task(device.live()))
    await eventually(lambda: get("/overview")["devices"] == {"total": 4, "online": 3}, "three devices online")
    http.post("/api/v1/models", json={"name": "digits"})
    bundle = http.post("/api/v1/models/digits/bundles", content=make_bundle()).json()["id"]
    plan = {"model": "digits", "bundle": bundle, "canary": 1, "waves": [{"percent": 50}, {"percent": 100}], "soak_s": 0}
    rollout = http.post("/api/v1/rollouts", json=plan).json()["id"]
    await eventually(lambda: get(f"/rollouts/{rollout}")["status"] == "complete", "the rollout is complete")
    assert get(f"/rollouts/{rollout}")["counts"]["confirmed"] == 3
    await eventually(lambda: all(device.acked for device in devices[:3]), "progress is acknowledged")

    os.kill(live.state.broker.processes[0].pid, signal.SIGKILL)
    await eventually(lambda: http.get("/readyz").status_code == 503, "the loss is seen")
    await eventually(lambda: http.get("/readyz").status_code == 200, "the broker is started again")
    late = devices[3]
    await late.connect(1)
    tasks.append(asyncio.create_task(late.live()))
    await late.beat()
    await eventually(lambda: get(f"/rollouts/{rollout}")["counts"]["confirmed"] == 4, "the late device caught up")
    assert late.running == bundle

    again = devices[0]
    again.adopted = 0
    await again.connect(2)
    await eventually(lambda: again.adopted > 0, "the assignment is retained again after the broker's death")
    again.link.abort()  # type: ignore[union-attr]  # connected above
    await eventually(lambda: not get("/devices/d0")["online"], "the will takes it offline")

    assert http.delete("/api/v1/devices/d3").status_code == 200
    assert late.link is not None
    async with asyncio.timeout(DEADLINE_S):
        await late.link.wait_closed()
    with pytest.raises(MqttError):
        await late.connect(3)
    assert get("/audit/verify")["broken_at"] is None
    metrics = http.get("/metrics").text
    assert "skerry_devices 3.0" in metrics and 'skerry_ingest_messages_total{channel="progress"}' in metrics
    for task in tasks:
        task.cancel()


def test_events_are_streamed_and_end_with_the_server(live: FastAPI) -> None:
    seen: list[str] = []
    with admin(live) as http:
        with http.stream("GET", "/api/v1/events", timeout=30.0) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            next(lines)
            http.post("/api/v1/models", json={"name": "digits"})
            http.post("/api/v1/models/digits/bundles", content=make_bundle())
            for line in lines:
                seen.append(line)
                if line.startswith("data:"):
                    break
    assert "event: bundle" in seen and '"state":"published"' in seen[-1]
