"""A real fleet in a temporary folder with a clock that the test turns: real keys, real SQLite."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from tests.fleet import described
from tests.fleet.postgres import database_url as database_url
from tests.fleet.postgres import postgres as postgres
from tests.fleet.postgres import pytest_generate_tests as pytest_generate_tests

from skerry_contracts import codec, names, topics
from skerry_contracts.assignment import Assignment, Envelope
from skerry_contracts.bundle import (
    Baseline,
    Blob,
    Contract,
    Golden,
    Manifest,
    Predicates,
    Recipe,
    Signature,
    Variant,
)
from skerry_contracts.container import write_container
from skerry_contracts.device import Hardware, Heartbeat, ModelHealth, ModelState, Phase, Progress, Reason, SpoolHealth
from skerry_contracts.enrolment import EnrolmentRequest
from skerry_contracts.tensor import DType, TensorSpec
from skerry_fleet import claims, enrolment, wire
from skerry_fleet.app import create_app
from skerry_fleet.audit import Actor
from skerry_fleet.blobs import BlobStore
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import ConflictError
from skerry_fleet.fleet import Fleet, open_fleet
from skerry_fleet.tables import SignedAssignment

ACTOR = Actor("default", "test")
HARDWARE = Hardware(
    "linux", "x86_64", "cpu", ("avx2", "fma"), 4, 1 << 34, "glibc", "2.36", "x86-64-v3", "0.1.0", {"native": "1"}
)


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: ec.EllipticCurvePrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def make_bundle(
    model: str = "digits",
    version: str = "1",
    release: int = 1,
    *,
    target: str = "host",
    machine: str = "x86_64",
    library: bytes | None = None,
    bins: int = 1,
) -> bytes:
    """Return a small whole bundle file; `bins` of its baseline make its manifest long."""
    library, rows, answers = library or f"library {version}".encode(), b"\0" * 8, b"\1" * 8
    blob = {data: Blob(codec.digest(data), len(data)) for data in (library, rows, answers)}
    spec = TensorSpec("x", DType.FP32, (1, 2))
    variant = Variant("v", "native", "fp32", {"library": blob[library]}, Predicates("linux", machine), 1000)
    manifest = Manifest(
        1,
        model,
        version,
        release,
        target,
        Signature((spec,), (TensorSpec("y", DType.FP32, (1, 2)),)),
        (variant,),
        Golden(1, blob[rows], blob[answers], 1e-5, 1e-5, True),
        Contract(),
        (Baseline("confidence", tuple(0.5 + each for each in range(bins)), (1,) * (bins + 1)),),
        Recipe("0.1", "0" * 64, "onnx", target, "1" * 64),
    )
    file = io.BytesIO()
    write_container(file, codec.encode(manifest), [(each.sha256, data) for data, each in blob.items()])
    return file.getvalue()


def enrolment_body(token: str, device: str | None, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Return the body of an enrolment request."""
    _, claim, secret, _ = token.split(".")
    body = {"claim": claim, "secret": secret, "csr_pem": csr(key), "hardware": codec.to_plain(HARDWARE)}
    return body if device is None else {**body, "device": device}


@dataclasses.dataclass
class Bench:
    """A fleet and what devices would send it."""

    fleet: Fleet
    clock: Clock
    boots: dict[str, int] = dataclasses.field(default_factory=dict)
    seqs: dict[str, int] = dataclasses.field(default_factory=dict)

    def enrol(self, *devices: str, group: str = "") -> None:
        """Enrol devices through claim and certificate request."""
        fleet, now = self.fleet, self.clock()
        with fleet.rollouts.open() as session:
            made = claims.create(session, ACTOR, now, fleet.random, "0" * 64, uses=len(devices), group=group)
            _, claim, secret, _ = made["token"].split(".")
            for device in devices:
                request = EnrolmentRequest(claim, secret, csr(new_key()), HARDWARE, device)
                office = fleet.office.authority
                enrolment.enrol(session, office, "default", request, ("127.0.0.1", 1), now, 30.0, fleet.random)
                session.flush()
                fleet.rollouts.joined(session, now, "default", device)

    def publish(self, version: str = "1", release: int = 1, **options: Any) -> str:
        """Register and upload a bundle; return its id."""
        with contextlib.suppress(ConflictError):
            self.fleet.registry.register(ACTOR, options.get("model", "digits"))
        file = io.BytesIO(make_bundle(version=version, release=release, **options))
        return str(self.fleet.registry.upload(ACTOR, options.get("model", "digits"), file)["id"])

    def boot_id(self, device: str) -> str:
        return names.new_boot_id(self.boots.get(device, 1), b"\0\0\0\1")

    def next(self, device: str) -> int:
        self.seqs[device] = self.seqs.get(device, 0) + 1
        return self.seqs[device]

    def assignment(self, device: str) -> Assignment | None:
        """Return the newest assignment, as signed."""
        with self.fleet.database.read() as session:
            row = session.get(SignedAssignment, ("default", device))
            if row is None or not row.envelope:
                return None
            return codec.decode(Assignment, codec.decode(Envelope, row.envelope.encode()).payload)

    def send(self, device: str, channel: str, record: Any) -> None:
        """Put a message into ingest, commit it, and let rollouts take it in."""
        self.send_all([(device, channel, record)])

    def send_all(self, messages: Iterable[tuple[str, str, Any]]) -> None:
        """Put messages (device, channel, record) into one batch."""
        for device, channel, record in messages:
            payload = record if isinstance(record, bytes) else codec.encode(record)
            self.fleet.core.accept(topics.topic("default", device, channel), payload, self.clock())
        written = self.fleet.core.commit().written
        with self.fleet.rollouts.open() as session:
            self.fleet.rollouts.observe(session, self.clock(), written.beats, written.turned)

    def beat(self, device: str, bundle: str | None = None, **health: Any) -> None:
        """Send a heartbeat in which the device serves a bundle (default: what it is assigned)."""
        self.send(device, "heartbeat", self.heartbeat(device, bundle, **health))

    def heartbeat(self, device: str, bundle: str | None = None, **health: Any) -> Heartbeat:
        """Return what `beat` sends."""
        assigned = self.assignment(device)
        found = [each.bundle for each in assigned.models] if assigned is not None and bundle is None else [bundle or ""]
        fields = {"predictions": 10, "errors": 0, "latency_p95_ms": 2.0, **health}
        models = tuple(
            ModelHealth(
                model="digits",
                version="1",
                bundle=each,
                variant="v",
                state=ModelState.SERVING,
                restarts=0,
                latency_p50_ms=1.0,
                rss_bytes=1,
                **fields,
            )
            for each in found
            if each
        )
        sequence = 0 if assigned is None else assigned.sequence
        return Heartbeat(
            self.boot_id(device),
            self.next(device),
            self.clock(),
            1.0,
            sequence,
            models,
            SpoolHealth(0, 0, 0, 0, 0),
            1,
            1 << 33,
        )

    def progress(self, device: str, phase: Phase, reason: Reason = Reason.OK, **fields: Any) -> None:
        """Send a step of the update that the device is assigned."""
        assigned = self.assignment(device)
        assert assigned is not None and assigned.models
        order = assigned.models[0]
        told = {"sequence": assigned.sequence, "rollout": order.rollout, "bundle": order.bundle, **fields}
        step = Progress(
            self.boot_id(device), self.next(device), self.clock(), model="digits", phase=phase, reason=reason, **told
        )
        self.send(device, "progress", step)

    def install(self, device: str) -> None:
        """Commit what is assigned and be heard serving it."""
        self.progress(device, Phase.COMMITTED)
        self.beat(device)


def folder_of(fleet: Fleet) -> BlobStore:
    """Return the folder in which a fleet keeps its blobs."""
    assert isinstance(fleet.blobs, BlobStore)
    return fleet.blobs


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config(tmp_path: Path, database_url: str) -> FleetConfig:
    root = tmp_path / "fleet"  # the servers that messages are sent to are this machine's own
    return FleetConfig(root=root, broker="embedded", database_url=database_url, webhook_reach="machine")


@pytest.fixture
def bench(config: FleetConfig, clock: Clock) -> Iterator[Bench]:
    found = Bench(open_fleet(config, clock, random.Random(1).randbytes), clock)
    yield found
    found.fleet.close()  # a test may have opened it anew


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port; give its address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # as `serve` listens
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(wire.settings(app, app.state.fleet.config))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended at once"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def app(config: FleetConfig, clock: Clock) -> FastAPI:
    """The application without a broker."""
    return create_app(config, clock, random.Random(1).randbytes, with_broker=False)


@contextlib.contextmanager
def admin(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve an application; give a client with the first admin's key. What it is answered must be as described."""
    key = (app.state.fleet.config.root / "admin.key").read_text().strip()
    headers = {"authorization": f"Bearer {key}"}
    hooks = {"response": [described.Description(app).check]}
    with serving(app) as url, httpx.Client(base_url=url, headers=headers, trust_env=False, event_hooks=hooks) as found:
        yield found


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    """The application over HTTP, as the first admin."""
    with admin(app) as found:
        yield found
