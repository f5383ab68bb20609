"""Two tenants on one machine, a fleet manager each, as docs/access.md says: real devices of the one mean nothing to the
other, over HTTP and over MQTT with either broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from tests.fleet.conftest import admin, enrolment_body, new_key
from tests.fleet.test_app import eventually

from skerry_contracts import codec, topics
from skerry_contracts.device import Heartbeat, Presence, SpoolHealth
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.mqtt.client import Client, tls_context
from skerry_fleet.mqtt.errors import MqttError

BOOT = "00000001-00000001"
TENANTS = ("north", "south")
DEVICE = "lamp-1"
"""In both: a name is its tenant's own."""


@dataclasses.dataclass
class House:
    """One tenant: its fleet's API as its admin, and what its one device was given."""

    tenant: str
    http: httpx.Client
    folder: Path
    given: dict[str, Any]
    claim: str

    def context(self, ca: House | None = None) -> ssl.SSLContext:
        """Return TLS with the device's own key, trusting its own authority or another's."""
        names = ((ca or self).folder / "ca", self.folder / "crt", self.folder / "key")
        return tls_context(*map(str, names))

    async def connect(self, to: House, context: ssl.SSLContext) -> Client:
        """Connect the device to a broker."""
        return await Client.connect(
            "127.0.0.1",
            to.given["broker_port"],
            client_id=f"{self.tenant}/{DEVICE}",
            on_message=lambda message: None,
            tls=context,
        )

    def devices(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get("/api/v1/devices").json()["items"]
        return found


@contextlib.contextmanager
def opened(folder: Path, tenant: str, broker: str) -> Iterator[House]:
    config = FleetConfig(root=folder / "fleet", broker=broker, tenant=tenant, tick_s=0.1)
    app = create_app(config, time.time, random.Random(tenant).randbytes)
    with admin(app) as http:
        claim = http.post("/api/v1/claims", json={"uses": 1}).json()["token"]
        key = new_key()
        given = http.post("/device/v1/enrol", json=enrolment_body(claim, DEVICE, key)).json()
        private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "key").write_bytes(key.private_bytes(*private))
        (folder / "crt").write_text(given["certificate_pem"])
        (folder / "ca").write_text(codec.parse_json(http.get("/device/v1/trust").content)["ca_pem"])
        yield House(tenant, http, folder, given, claim)


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def houses(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[House, House]]:
    if request.param == "mosquitto" and shutil.which("mosquitto") is None:
        pytest.skip("no mosquitto on PATH")
    with contextlib.ExitStack() as stack:
        found = []
        for tenant in TENANTS:
            (tmp_path / tenant).mkdir()
            found.append(stack.enter_context(opened(tmp_path / tenant, tenant, request.param)))
        yield found[0], found[1]


def test_what_one_tenant_gave_is_worth_nothing_to_the_other(houses: tuple[House, House]) -> None:
    for own, other in (houses, houses[::-1]):
        claim = own.http.post("/api/v1/claims", json={}).json()["token"]
        assert other.http.post("/device/v1/enrol", json=enrolment_body(claim, "x", new_key())).status_code == 401
        for token in (own.given["download_token"], own.http.headers["authorization"].removeprefix("Bearer ")):
            for path in ("/api/v1/devices", "/tuf/metadata/1.root.json", f"/blobs/{'0' * 64}", "/metrics"):
                answer = other.http.get(path, headers={"authorization": f"Bearer {token}"})
                assert answer.status_code == 401, path
        assert other.http.get("/device/v1/trust").content != own.http.get("/device/v1/trust").content
        assert [each["device"] for each in other.devices()] == [DEVICE]


def test_devices_speak_with_their_own_fleet_alone(houses: tuple[House, House]) -> None:
    asyncio.run(_speak(*houses))


async def _speak(north: House, south: House) -> None:
    for house in (north, south):
        await eventually(lambda house=house: house.http.get("/readyz").status_code == 200, f"{house.tenant} serves")  # type: ignore[misc]
    # North's device: its own broker takes it; south's refuses its certificate, and it refuses south's broker.
    with pytest.raises((MqttError, OSError, asyncio.IncompleteReadError)):
        await north.connect(south, north.context(ca=south))
    with pytest.raises((MqttError, OSError, asyncio.IncompleteReadError)):
        await north.connect(south, north.context())
    beat = codec.encode(Heartbeat(BOOT, 1, 0.0, 1.0, 0, (), SpoolHealth(0, 0, 0, 0, 0), 1, 1))
    # In the other's name first: when its own has arrived, that would have, too.
    for tenant in ("south", "north"):
        link = await north.connect(north, north.context())
        try:
            with contextlib.suppress(*((MqttError,) if tenant == "south" else ())):
                await link.publish(
                    topics.topic(tenant, DEVICE, "presence"), codec.encode(Presence(BOOT, 1, True)), qos=1
                )
                await link.publish(topics.topic(tenant, DEVICE, "heartbeat"), beat, qos=1)
            if tenant == "north":
                await eventually(lambda: north.devices()[0]["online"], "north hears its device")
        finally:
            link.abort()
    assert [(each["device"], each["online"]) for each in south.devices()] == [(DEVICE, False)]
    for house in (north, south):
        assert "south" not in house.http.get("/api/v1/dead-letters").text, "not even refused: it never came in"
        assert house.http.get("/api/v1/overview").json()["tenant"] == house.tenant
        assert house.http.get("/api/v1/audit/verify").json()["broken_at"] is None
