"""What the tests of leases share: a lab of boards, and how to ask, upload, report and look."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tests.fleet.conftest import ACTOR, HARDWARE, Bench, make_bundle

from skerry_contracts.bundle import Predicates
from skerry_contracts.device import Presence
from skerry_contracts.measuring import MODEL, MeasuredCandidate, MeasureReport, MeasureState, Outcome
from skerry_fleet import groups, lease_request
from skerry_fleet.audit import Actor
from skerry_fleet.lease_request import LeaseRequest, Terms
from skerry_fleet.measure_tables import MeasureLease

PROFILE = HARDWARE.profile
FITS = Predicates("linux", "x86_64", ("avx2",))
SOURCE = "5" * 64


def online(bench: Bench, *names: str, up: bool = True) -> None:
    for device in names:
        bench.send(device, "presence", Presence(bench.boot_id(device), bench.next(device), up))


def open_lab(bench: Bench) -> Bench:
    """Three boards online, of which two take part."""
    bench.enrol("b1", "b2", "b3")
    online(bench, "b1", "b2", "b3")
    with bench.fleet.database.write() as session:
        groups.create(session, ACTOR, bench.clock(), "measuring")
        groups.add(session, ACTOR, bench.clock(), "measuring", ["b1", "b2"])
    return bench


def ask(bench: Bench, device: str | None = None, profile: str = PROFILE, actor: Actor = ACTOR) -> str:
    with bench.fleet.database.write() as session:
        request = LeaseRequest(profile, FITS, SOURCE, device)
        return bench.fleet.leases.create(session, actor, bench.clock(), request).id


def lease(bench: Bench, name: str) -> MeasureLease:
    with bench.fleet.database.read() as session:
        return lease_request.get(session, "default", name)


def candidates(version: str = "1", model: str = MODEL) -> io.BytesIO:
    return io.BytesIO(make_bundle(model, version, 1, target=PROFILE, library=f"candidate {version}".encode()))


def upload(bench: Bench, name: str, file: io.BytesIO | None = None, **terms: int) -> None:
    with bench.fleet.database.write() as session:
        row = lease_request.owned(session, ACTOR, name, by_role=False)
        bench.fleet.leases.upload(session, ACTOR, bench.clock(), row, file or candidates(), Terms(**terms))


def tell(bench: Bench, name: str, state: MeasureState, device: str = "", **more: Any) -> None:
    row = lease(bench, name)
    device = device or row.device
    report = MeasureReport(bench.boot_id(device), bench.next(device), bench.clock(), name, row.bundle, state, **more)
    bench.send(device, "measured", report)


def candidate(name: str = "v", **more: Any) -> MeasuredCandidate:
    usual = {
        "p50_ns": (1000, 1100),
        "latency_p50_ms": 0.001,
        "latency_p99_ms": 0.002,
        "runs": 20,
        "answers": b"12345678",
    }
    return MeasuredCandidate(name, "native", "fp32", Outcome.MEASURED, **{**usual, **more})


def ordered(bench: Bench, device: str) -> str | None:
    assignment = bench.assignment(device)
    return assignment.measure.id if assignment is not None and assignment.measure is not None else None


def kept(bench: Bench) -> list[Path]:
    folder = bench.fleet.config.root / "measuring"
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
