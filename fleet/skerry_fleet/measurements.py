"""The performance database: what candidates came to on boards, kept by ingest, asked by compilers and people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Hardware
from skerry_contracts.measuring import MeasuredCandidate, MeasureReport
from skerry_fleet.errors import MissingError
from skerry_fleet.ingest import Incoming, made
from skerry_fleet.lease_machine import FINAL, LeaseStatus
from skerry_fleet.measure_tables import MeasureLease, MeasurementRow
from skerry_fleet.paging import Page, listing
from skerry_fleet.tables import Device

ANSWERS_S = 3600.0  # after the lease: then only the figures stay
STRAGGLERS_S = 10.0  # after a board's last word: messages may overtake each other
TIDY = 200  # rows at a time
_COLUMNS = [name for name in MeasurementRow.model_fields if name != "id"]
_INSERT = (
    f"INSERT INTO measurement ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
    " ON CONFLICT (tenant, device, boot_id, seq) DO NOTHING"
)


def keep(session: Session, messages: Sequence[Incoming]) -> None:
    """Keep what boards reported. A report counts only from the board that the lease is on, and each once."""
    for message in sorted(messages, key=made):
        report: MeasureReport = message.record
        row = session.get(MeasureLease, (message.tenant, report.order))
        if row is None or row.device != message.device or row.bundle != report.bundle:
            continue  # of nobody's order: acknowledged, so that it is not sent for ever, and not believed
        if report.candidate is not None:
            session.connection().execute(sqlalchemy.text(_INSERT), _row(session, row, message, report.candidate))
        if row.status == LeaseStatus.MEASURING and made(message) > (row.told_boot, row.told_seq):
            row.told_boot, row.told_seq, row.told_ms = message.boot_id, message.seq, message.received_ms
            row.told_state, row.told_detail = report.state.value, report.detail
            row.told_notes, row.told_reported = json.dumps(list(report.notes)), report.reported
            session.add(row)


def complete(session: Session, row: MeasureLease, now: float) -> bool:
    """Return whether everything is here that a board's last word counts, or was waited for long enough."""
    query = select(func.count()).where(MeasurementRow.tenant == row.tenant, MeasurementRow.lease == row.id)
    return session.exec(query).one() >= row.told_reported or now - row.told_ms / 1000 > STRAGGLERS_S


def speed(found: MeasuredCandidate) -> float | None:
    """Return how many times as fast as the yardstick: the median over rounds, each of both side by side."""
    pairs = [(own, other) for own, other in zip(found.p50_ns, found.against_p50_ns, strict=False) if own and other]
    return statistics.median(other / own for own, other in pairs) if pairs else None


def view(row: MeasurementRow) -> dict[str, Any]:
    """Return a measurement as lists show it."""
    return row.model_dump(exclude={"tenant", "boot_id", "seq", "record"})


def show(session: Session, tenant: str, number: int) -> dict[str, Any]:
    """Return one measurement with every round.

    Raises:
        MissingError: no such measurement.
    """
    row = session.get(MeasurementRow, number)
    if row is None or row.tenant != tenant:
        raise MissingError(f"no measurement {number}", hint="`skerry fleet measurements list` shows what there is")
    return {**view(row), "record": _figures(row)}


def list_measurements(
    session: Session, tenant: str, page: Page, *, profile: str = "", device: str = "", source: str = "", lease: str = ""
) -> dict[str, Any]:
    """Return one page of measurements, newest first."""
    query = select(MeasurementRow).where(MeasurementRow.tenant == tenant)
    for column, value in (("profile", profile), ("device", device), ("source_sha256", source), ("lease", lease)):
        if value:
            query = query.where(getattr(MeasurementRow, column) == value)
    if page.after_id is not None:
        query = query.where(col(MeasurementRow.id) < page.after_id)
    rows = session.exec(query.order_by(col(MeasurementRow.id).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, view, lambda row: row.id)


def lease_view(session: Session, row: MeasureLease, *, results: bool = False) -> dict[str, Any]:
    """Return a lease as the API shows it; with `results`, every candidate's record as the board sent it, with its
    answers.
    """
    hidden = {"tenant", "number", "requires", "terms", "told_boot", "told_seq", "told_notes", "told_state", "artifacts"}
    shown = row.model_dump(exclude=hidden)
    device = session.get(Device, (row.tenant, row.device)) if row.device else None
    shown |= {
        "state": row.told_state or None,
        "notes": json.loads(row.told_notes),
        "hardware": json.loads(device.hardware) if device is not None else None,
        "final": row.status in FINAL,
    }
    if results:
        query = select(MeasurementRow).where(MeasurementRow.tenant == row.tenant, MeasurementRow.lease == row.id)
        rows = session.exec(query.order_by(col(MeasurementRow.id))).all()
        shown["results"] = [json.loads(each.record) for each in rows]
    return shown


def list_leases(session: Session, tenant: str, page: Page, status: str = "") -> dict[str, Any]:
    """Return one page of leases, newest first."""
    query = select(MeasureLease).where(MeasureLease.tenant == tenant)
    if status:
        query = query.where(MeasureLease.status == status)
    if page.after_id is not None:
        query = query.where(MeasureLease.number < page.after_id)
    rows = session.exec(query.order_by(col(MeasureLease.number).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, lambda row: lease_view(session, row), lambda row: row.number)


def tidy(session: Session, now: float, days: float) -> None:
    """Remove what is older than `days`, and the answers of what was measured an hour ago."""
    old_ms, done_ms = int((now - days * 86_400) * 1000), int((now - ANSWERS_S) * 1000)
    connection = session.connection()
    gone = sqlalchemy.text("DELETE FROM measurement WHERE received_ms < :old_ms")
    connection.execute(gone, {"old_ms": old_ms})
    final = [each.value for each in FINAL]
    leases = sqlalchemy.text("DELETE FROM measure_lease WHERE updated_ms < :old_ms AND status IN :final")
    connection.execute(
        leases.bindparams(sqlalchemy.bindparam("final", expanding=True)), {"old_ms": old_ms, "final": final}
    )
    query = select(MeasurementRow).where(
        MeasurementRow.received_ms < done_ms, col(MeasurementRow.record).contains('"answers":')
    )
    for row in session.exec(query.limit(TIDY)).all():
        row.record = codec.canonical_json(_figures(row)).decode()
        session.add(row)


def _figures(row: MeasurementRow) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(row.record)
    plain.pop("answers", None)
    return plain


def _row(session: Session, lease: MeasureLease, message: Incoming, found: MeasuredCandidate) -> dict[str, Any]:
    device = session.get(Device, (message.tenant, message.device))
    facts = codec.decode(Hardware, device.hardware.encode()) if device is not None else None
    return {
        "tenant": message.tenant,
        "device": message.device,
        "boot_id": message.boot_id,
        "seq": message.seq,
        "received_ms": message.received_ms,
        "lease": lease.id,
        "profile": facts.profile if facts is not None else lease.profile,
        "source_sha256": lease.source_sha256,
        "artifact_sha256": _artifact(lease, found.id),
        "candidate": found.id,
        "engine": found.engine,
        "engine_version": facts.engines.get(found.engine, "") if facts is not None else "",
        "precision": found.precision,
        "outcome": found.outcome.value,
        "against": found.against,
        "speed": speed(found),
        "latency_p50_ms": found.latency_p50_ms,
        "latency_p99_ms": found.latency_p99_ms,
        "rss_bytes": found.rss_bytes,
        "cpu": facts.cpu if facts is not None else "",
        "agent_version": facts.agent_version if facts is not None else "",
        "record": codec.encode(found).decode(),
    }


def _artifact(lease: MeasureLease, candidate: str) -> str:
    """Return the digest of what ran: of its one file, or of all its roles and digests where there are several."""
    blobs: dict[str, str] = json.loads(lease.artifacts).get(candidate, {})
    return next(iter(blobs.values())) if len(blobs) == 1 else codec.digest(codec.canonical_json(blobs)) if blobs else ""


def artifacts_of(manifest: Manifest) -> str:
    """Return what a lease remembers of its candidates: JSON of candidate -> role -> digest."""
    found = {each.id: {role: blob.sha256 for role, blob in each.blobs.items()} for each in manifest.variants}
    return codec.canonical_json(found).decode()
