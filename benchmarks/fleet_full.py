"""A fleet that looks lived in: sites, heartbeats of every device, a rollout under way, alerts, drift, weeks of history.

Everything that a page shows went in as it would in service, but for the history by the hour: nobody waits for weeks.
"""

from __future__ import annotations

import contextlib
import io
import math
import random
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy

from skerry_contracts import codec, names, topics
from skerry_contracts.container import write_container
from skerry_contracts.device import Heartbeat, ModelHealth, ModelState, Presence, SpoolHealth
from skerry_contracts.sample import Kept, Sample, prediction_id
from skerry_contracts.tensor import DType, Tensor
from skerry_fleet import alerts, feeds, groups
from skerry_fleet.alerts import Kind
from skerry_fleet.audit import Actor
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import ConflictError
from skerry_fleet.fleet import Fleet, open_fleet
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import Order
from skerry_fleet.swarm import device_name
from skerry_simulators.catalogue import HARDWARE, LABELS, MODEL, TENANT, make_bundle
from skerry_simulators.catalogue import Kind as Behaviour

ACTOR = Actor(TENANT, "system:benchmark")
SITES = {
    "bergen": (60.39, 5.32),
    "lisbon": (38.72, -9.14),
    "nairobi": (-1.29, 36.82),
    "osaka": (34.69, 135.5),
    "perth": (-31.95, 115.86),
    "quito": (-0.18, -78.47),
    "toronto": (43.65, -79.38),
    "zagreb": (45.81, 15.98),
}
BATCH = 1000
WEEKS = 3
HOUR_MS = 3_600_000
SAMPLES = 40


@contextlib.contextmanager
def opened(root: Path, shards: int) -> Iterator[Fleet]:
    """Open a fleet that nobody serves."""
    fleet = open_fleet(FleetConfig(root=root, shards=shards), time.time, secrets.token_bytes)
    try:
        yield fleet
    finally:
        fleet.close()


def furnish(root: Path, devices: int, shards: int = 1) -> str:
    """Give the admitted simulated devices of a fleet a life; return the rollout that is under way."""
    with opened(root, shards) as fleet:
        old, new = (_publish(fleet, release) for release in (1, 2))
        _sites(fleet, devices)
        _beats(fleet, devices, old)
        _history(fleet)
        with fleet.database.write() as session:
            groups.create(session, ACTOR, fleet.clock(), "front", "doorbells at front doors")
            groups.add(session, ACTOR, fleet.clock(), "front", [device_name(number) for number in range(devices // 2)])
            for number in range(0, devices, max(1, devices // 12)):
                text = "not heard of for 4 minutes"
                alerts.raise_alert(session, TENANT, fleet.clock(), Kind.DEVICE_SILENT, device_name(number), text)
        _drift(fleet)
        _samples(fleet, new, devices)
        waves = (Wave(10), Wave(50), Wave(100))
        request = RolloutRequest(MODEL, new, canary=2, waves=waves, exposure_budget=max(5, devices // 50))
        with fleet.rollouts.open() as session:
            made = str(fleet.rollouts.create(session, ACTOR, fleet.clock(), request)["id"])
            # Its canaries are on their way; what else a rollout costs is measured elsewhere.
            fleet.rollouts.order(session, ACTOR, fleet.clock(), made, Order.PAUSE)
        return made


def _publish(fleet: Fleet, release: int) -> str:
    made, file = make_bundle(f"{release}.0.0", release, Behaviour.GOOD, random.Random(release)), io.BytesIO()
    write_container(file, made.manifest_bytes, list(made.blobs.items()))
    with contextlib.suppress(ConflictError):
        fleet.registry.register(ACTOR, MODEL, "reads house numbers")
    return str(fleet.registry.upload(ACTOR, MODEL, file)["id"])


def _sites(fleet: Fleet, devices: int) -> None:
    listed = list(SITES.items())
    rows = []
    for number in range(devices):
        site, (latitude, longitude) = listed[number % len(listed)]
        tags = {"site": site, "latitude": f"{latitude}", "longitude": f"{longitude}", "floor": str(number % 7)}
        rows.append({"tenant": TENANT, "name": device_name(number), "tags": codec.canonical_json(tags).decode()})
    with fleet.database.write() as session:
        session.connection().execute(
            sqlalchemy.text("UPDATE device SET tags = :tags WHERE tenant = :tenant AND name = :name"), rows
        )


def _beats(fleet: Fleet, devices: int, bundle: str) -> None:
    """Let every device be heard: nine in ten are online, one in ten runs a version from before."""
    spool, draw = SpoolHealth(40, 39, 0, 1, 900), random.Random(2)
    for first in range(0, devices, BATCH):
        for number in range(first, min(devices, first + BATCH)):
            device, boot = device_name(number), names.new_boot_id(1, number.to_bytes(4, "big"))
            version = "0.9.0" if number % 10 == 3 else "1.0.0"
            model = ModelHealth(
                MODEL, version, bundle, "v", ModelState.SERVING, 60 + number % 60, int(draw.random() < 0.02), 0,
                0.2 + draw.random() / 10, 0.4 + draw.random() / 5, 13_000_000, 0.9 + draw.random() / 20,
            )  # fmt: skip
            beat = Heartbeat(
                boot, 1, fleet.clock(), 7200.0, 0, (model,), spool, 28_000_000, 9_000_000_000, hardware=HARDWARE
            )
            said: list[tuple[str, object]] = [("presence", Presence(boot, 1, True)), ("heartbeat", beat)]
            said += [("presence", Presence(boot, 1, False))] if number % 10 == 7 else []
            for channel, record in said:
                fleet.core.accept(topics.topic(TENANT, device, channel), codec.encode(record), fleet.clock())
        fleet.core.commit()


def _history(fleet: Fleet) -> None:
    """Write what the hours of some weeks came to."""
    now_ms, draw = int(fleet.clock() * 1000) // HOUR_MS * HOUR_MS, random.Random(3)
    health, messages = [], []
    for age in range(1, WEEKS * 7 * 24):
        hour_ms, day = now_ms - age * HOUR_MS, 1 + 0.4 * math.sin(age / 24 * 2 * math.pi)
        for version, share in (("0.9.0", min(1.0, 0.1 + age / 400)), ("1.0.0", max(0.0, 0.9 - age / 400))):
            beats = round(3000 * day * share)
            if beats:
                predictions = beats * 60
                errors = round(predictions * (0.0004 + 0.0004 * draw.random()))
                health.append({"version": version, "hour": hour_ms, "beats": beats, "p": predictions, "e": errors,
                               "s": beats * 0.25, "b": beats * 0.5,
                               "r": beats * 13_000_000, "c": beats * 0.93})  # fmt: skip
        messages.append({"hour": hour_ms, "n": round(9000 * day * (0.9 + 0.2 * draw.random()))})
    with fleet.database.write() as session:
        connection = session.connection()
        connection.execute(
            sqlalchemy.text(
                f"INSERT INTO health_hour VALUES ('{TENANT}', '{MODEL}', :version, :hour, :beats, :p, :e, 0, :s, :b,"
                " :r, :beats, :c)"
            ),
            health,
        )
        connection.execute(
            sqlalchemy.text(f"INSERT INTO message_hour VALUES ('{TENANT}', 'sample', '{MODEL}', '', :hour, :n)"),
            messages,
        )


def _drift(fleet: Fleet) -> None:
    for monitor, least, threshold in (("data-drift", 0.52, 0.6), ("model-quality", 0.03, 0.12)):
        for step in range(60):
            score = (
                least + 0.01 * math.sin(step) + (0.012 * (step - 45) if monitor == "data-drift" and step > 45 else 0)
            )
            record = {"score": score, "threshold": threshold, "feature": "input:image", "false_alarm_rate": 0.01}
            with fleet.database.write() as session:
                feeds.put_drift(session, ACTOR, fleet.clock(), MODEL, monitor, score > threshold, record)


def _samples(fleet: Fleet, bundle: str, devices: int) -> None:
    draw = random.Random(4)
    for turn in range(SAMPLES):
        number = draw.randrange(devices)
        device, boot = device_name(number), names.new_boot_id(1, number.to_bytes(4, "big"))
        cells = [
            max(0.0, 1 - abs(math.hypot(x - 3.5 + math.sin(turn), y - 3.5) - 2.4)) for y in range(8) for x in range(8)
        ]
        scores = [0.05] * len(LABELS)
        scores[turn % len(LABELS)] = 0.55 + 0.4 * draw.random()
        sample = Sample(
            boot, 100 + turn, fleet.clock(), prediction_id(device, boot, turn), MODEL, "2.0.0", bundle, "v",
            (Kept.RANDOM, Kept.UNCERTAIN, Kept.NOVEL)[turn % 3], 1.0,
            (Tensor("image", DType.FP32, (1, 64), struct.pack("<64f", *cells)),),
            (Tensor("scores", DType.FP32, (1, len(LABELS)), struct.pack(f"<{len(LABELS)}f", *scores)),), max(scores),
        )  # fmt: skip
        fleet.core.accept(topics.topic(TENANT, device, "sample"), codec.encode(sample), fleet.clock())
    fleet.core.commit()
