"""A fleet with real rows, filled through enrolment, ingest, rollouts and verdicts, and served; and a browser for it."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import io
import math
import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fleet.conftest import ACTOR, Bench, Clock, make_bundle, serving
from tests.fleet.dashboard.chromium import Browser, chromium

from skerry_contracts import codec
from skerry_contracts.bundle import Contract, Signature
from skerry_contracts.container import open_container, write_container
from skerry_contracts.device import Heartbeat, ModelHealth, ModelState, Phase, Presence, Reason, SpoolHealth
from skerry_contracts.evidence import Agreement, Candidate, Evidence, Measurement, Verdict
from skerry_contracts.sample import Kept, Sample, prediction_id
from skerry_contracts.tensor import DType, Tensor, TensorSpec
from skerry_fleet import alerts, apikeys, feeds, groups, tags
from skerry_fleet.alerts import Kind
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import ConflictError
from skerry_fleet.fleet import Fleet
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.rollout_rows import RolloutRequest

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>'\"{{7*7}}"


@dataclasses.dataclass
class House:
    """A served fleet: its address, its parts, and one key for each role."""

    url: str
    fleet: Fleet
    bench: Bench
    keys: dict[str, str]
    rollout: str = ""
    bad: str = ""

    @contextlib.contextmanager
    def visitor(self, role: str = "admin") -> Iterator[httpx.Client]:
        """Give a browser without a window that has signed in."""
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            sign_in(client, self.keys[role])
            yield client


def token_of(page: str) -> str:
    """Return the form token of a page."""
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found is not None
    return html.unescape(found[1])


def sign_in(client: httpx.Client, key: str, back: str = "/ui/") -> httpx.Response:
    """Fill in the sign-in form."""
    page = client.get("/ui/sign-in").text
    return client.post("/ui/sign-in", data={"key": key, "token": token_of(page), "next": back})


def rollout(bench: Bench, bundle: str, **wanted: Any) -> str:
    """Start a rollout."""
    with bench.fleet.rollouts.open() as session:
        request = RolloutRequest("digits", bundle, **wanted)
        return str(bench.fleet.rollouts.create(session, ACTOR, bench.clock(), request)["id"])


def digit(turn: int) -> bytes:
    """Return a drawn ring of 8 x 8, a little different every time."""
    cells = []
    for y in range(8):
        for x in range(8):
            distance = math.hypot(x - 3.5 + 0.4 * math.sin(turn), y - 3.5)
            cells.append(max(0.0, 1 - abs(distance - 2.4 - 0.4 * math.cos(turn))))
    return struct.pack("<64f", *cells)


def beat(bench: Bench, device: str, version: str, **health: Any) -> None:
    """Send a heartbeat with figures that are worth looking at."""
    assigned = bench.assignment(device)
    assert assigned is not None and assigned.models
    figures = {
        "state": ModelState.SERVING, "predictions": 1840, "errors": 0, "restarts": 0, "latency_p50_ms": 0.18,
        "latency_p95_ms": 0.31, "rss_bytes": 13_400_000, "mean_confidence": 0.934, **health,
    }  # fmt: skip
    model = ModelHealth(model="digits", version=version, bundle=assigned.models[0].bundle, variant="v", **figures)
    spool = SpoolHealth(412, 407, 5, 0, 18_300)
    boot, seq = bench.boot_id(device), bench.next(device)
    bench.send(device, "presence", Presence(boot, 1, True))
    told = Heartbeat(boot, seq, bench.clock(), 86_000.0, assigned.sequence, (model,), spool, 28_600_000, 21_400_000_000)
    bench.send(device, "heartbeat", dataclasses.replace(told, temperature_c=47.5))


def send_sample(bench: Bench, device: str, bundle: str, turn: int) -> None:
    """Send a sample as a device would."""
    boot, seq = bench.boot_id(device), bench.next(device)
    scores = [0.02] * 10
    scores[turn % 10] = 0.55 + 0.4 * abs(math.sin(turn))
    sample = Sample(
        boot, seq, bench.clock(), prediction_id(device, boot, seq), "digits", "2", bundle, "v",
        (Kept.RANDOM, Kept.UNCERTAIN)[turn % 2], 1.0,
        (Tensor("image", DType.FP32, (1, 64), digit(turn)),),
        (Tensor("scores", DType.FP32, (1, 10), struct.pack("<10f", *scores)),),
        max(scores),
    )  # fmt: skip
    bench.send(device, "sample", sample)


def verdict(bench: Bench, monitor: str, score: float, threshold: float, **more: Any) -> None:
    """Put a monitor's verdict, as the cloud does."""
    record = {
        "score": score, "threshold": threshold, "feature": "input:image", "false_alarm_rate": 0.01,
        "window": {"count": 200, "start_s": bench.clock() - 60, "end_s": bench.clock(), "upto": 7},
        "time_s": bench.clock(), **more,
    }  # fmt: skip
    with bench.fleet.database.write() as session:
        feeds.put_drift(session, ACTOR, bench.clock(), "digits", monitor, score > threshold, record)


def publish(bench: Bench, version: str, release: int) -> str:
    """Upload a bundle of a digit classifier with the evidence of a tournament; return its id."""
    with contextlib.suppress(ConflictError):
        bench.fleet.registry.register(ACTOR, "digits", f"reads house numbers {HOSTILE}")
    found = open_container(io.BytesIO(make_bundle(version=version, release=release)))
    image, scores = TensorSpec("image", DType.FP32, (1, 64)), TensorSpec("scores", DType.FP32, (1, 10))
    signature = Signature((image,), (scores,), tuple("0123456789"), None, "scores")
    contract = Contract(0.95, 2.0, 16_000_000)
    manifest = codec.encode(dataclasses.replace(found.manifest, signature=signature, contract=contract))
    candidates = (
        Candidate("native-fp32", "native", "fp32", Verdict.CHOSEN, "fastest that keeps every gate",
                  Measurement(0.018, 0.031, 12.1, 9.0, 41_200), Agreement(1.0, 2.4e-7, 1.0, 0.972)),
        Candidate("onnxruntime-fp32", "onnxruntime", "fp32", Verdict.SLOWER, "3.4 times slower",
                  Measurement(0.061, 0.094, 38.7, 61.0, 38_000), Agreement(1.0, 0.0, 1.0, 0.972)),
        Candidate("onnxruntime-int8", "onnxruntime", "int8", Verdict.INACCURATE, f"top-1 0.941 < 0.95 {HOSTILE}",
                  Measurement(0.047, 0.08, 37.9, 63.0, 14_000), Agreement(0.991, 0.21, 0.961, 0.941)),
        Candidate("native-int8", "native", "int8", Verdict.UNMEASURED, "no such kernel"),
    )  # fmt: skip
    evidence = Evidence(codec.digest(manifest), "host", "host", "this machine", int(bench.clock()), candidates,
                        Measurement(0.061, 0.094, 38.7, 61.0, 38_000), 0.972, (HOSTILE,))  # fmt: skip
    file = io.BytesIO()
    blobs = [(name, found.read_blob(name)) for name in found.manifest.blobs()]
    write_container(file, manifest, blobs, codec.encode(evidence))
    return str(bench.fleet.registry.upload(ACTOR, "digits", file)["id"])


def fill(bench: Bench) -> tuple[str, str]:
    """Give a fleet a history; return a rollout under way and one that failed and was rolled back."""
    devices = [f"porch-{number:02}" for number in range(1, 15)]
    bench.enrol(*devices[:12])
    bench.enrol(*devices[12:])
    with bench.fleet.database.write() as session:
        groups.create(session, ACTOR, bench.clock(), "porch", "doorbells at the front")
        groups.add(session, ACTOR, bench.clock(), "porch", devices[:9])
    with bench.fleet.rollouts.open() as session:
        for number, device in enumerate(devices[:12]):
            site, place = (HOSTILE, "59.9") if number < 3 else ("harbour", "91") if number < 6 else ("quay", "-33.9")
            wanted = {"site": site, "latitude": place, "longitude": "18.4"}
            tags.replace(session, bench.fleet.rollouts, ACTOR, bench.clock(), device, wanted)
    for device in devices[:13]:
        bench.beat(device)
    first = publish(bench, "1", 1)
    one = rollout(bench, first, canary=2, waves=(Wave(100),), soak_s=0.0, exposure_budget=20)
    _walk(bench, devices[:13], one)
    second = publish(bench, "2", 2)
    two = rollout(bench, second, group="porch", canary=1, waves=(Wave(50), Wave(100)), soak_s=0.0, supersede=True,
                  failure_budget=2, exposure_budget=4)  # fmt: skip
    bench.clock.now += 40
    offered = [device for device in devices[:9] if _model(bench, device) == second]
    for device in offered:
        bench.progress(device, Phase.DOWNLOADING, received_bytes=40_000, total_bytes=95_000)
        bench.progress(device, Phase.COMMITTED)
        beat(bench, device, "2")
    wave = [device for device in devices[:9] if device not in offered and _model(bench, device) == second]
    bench.progress(wave[0], Phase.ROLLED_BACK, Reason.GOLDEN, detail=HOSTILE)
    bench.progress(wave[1], Phase.DOWNLOADING, received_bytes=40_000, total_bytes=95_000)
    for turn in range(14):
        send_sample(bench, offered[0], second, turn)
    for step in range(30):
        bench.clock.now += 1
        verdict(bench, "data-drift", 0.52 + 0.01 * math.sin(step) + (0.012 * (step - 18) if step > 18 else 0), 0.6,
                evidence={"test": "domain classifier, leave-one-out AUC", "reference": HOSTILE})  # fmt: skip
        verdict(bench, "model-quality", 0.04 + 0.01 * math.sin(step * 2), 0.12)
    with bench.fleet.database.write() as session:
        alerts.raise_alert(session, "default", bench.clock(), Kind.DEVICE_SILENT, devices[13], f"silent: {HOSTILE}")
    return two, wave[0]


def _model(bench: Bench, device: str) -> str | None:
    found = bench.assignment(device)
    return found.models[0].bundle if found is not None and found.models else None


def _walk(bench: Bench, devices: list[str], name: str) -> None:
    """Let devices install whatever a rollout offers until nothing new comes."""
    done: set[str] = set()
    while todo := [each for each in devices if each not in done and _model(bench, each)]:
        for device in todo:
            bench.progress(device, Phase.COMMITTED)
            beat(bench, device, "1", latency_p95_ms=0.42)
            done.add(device)


@contextlib.contextmanager
def open_house(config: FleetConfig, clock: Clock) -> Iterator[House]:
    """Make and serve a fleet without a broker, with a key for each role."""
    app = create_app(config, clock, random.Random(1).randbytes, with_broker=False)
    fleet: Fleet = app.state.fleet
    keys = {}
    with fleet.database.write() as session:
        for role in ("viewer", "operator", "admin"):
            _, keys[role] = apikeys.create(session, ACTOR, clock(), fleet.random, f"{role} <b>of</b> pages", role)
    with serving(app) as url:
        yield House(url, fleet, Bench(fleet, clock), keys)


@pytest.fixture
def house(config: FleetConfig, clock: Clock) -> Iterator[House]:
    """A fleet without devices."""
    with open_house(config, clock) as found:
        yield found


@pytest.fixture
def full(house: House) -> House:
    """A fleet with a history, which the test may change."""
    house.rollout, house.bad = fill(house.bench)
    return house


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A fleet with a history, which every test leaves as it is."""
    with open_house(FleetConfig(tmp_path_factory.mktemp("shown")), Clock()) as found:
        found.rollout, found.bad = fill(found.bench)
        yield found


@pytest.fixture
def browser(full: House, tmp_path: Path) -> Iterator[Browser]:
    """A browser in which an operator has signed in, with the keyboard alone."""
    with chromium(tmp_path / "profile") as found:
        found.look(1280)
        found.go(f"{full.url}/")
        found.wait("location.pathname === '/ui/sign-in'")
        for _ in range(10):
            found.press("Tab", 9)
            if found.run("document.activeElement.id") == "key":
                break
        found.type(full.keys["operator"])
        found.run("window.__old = true")
        found.press("Enter", 13, "\r")
        found.arrived()
        assert found.run("location.pathname") == "/ui/"
        yield found
