"""The drift pages: what each monitor says of a model, how its score moved, and pictures of what the devices saw."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, func
from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_contracts.sample import Sample
from skerry_contracts.tensor import STRUCT_CODE, Tensor
from skerry_fleet import feeds
from skerry_fleet.dashboard import drawing, drift_sites
from skerry_fleet.dashboard.sites import SITE
from skerry_fleet.records import Drift, DriftHistory, SampleRow
from skerry_fleet.tables import Bundle, Device

POINTS = 120
SAMPLES, DEVICE_SAMPLES = 24, 8
SHOWN_ELEMENTS = 8


def index(session: Session, tenant: str) -> list[dict[str, Any]]:
    """Return the newest verdict of every monitor of every model."""
    rows = session.exec(select(Drift).where(Drift.tenant == tenant).order_by(col(Drift.model), col(Drift.monitor)))
    return [{**feeds.drift_view(row), "line": _line(session, row)} for row in rows]


def model(session: Session, tenant: str, name: str) -> dict[str, Any]:
    """Return a model's monitors, each with its line.

    Raises:
        MissingError: no such model.
    """
    found = feeds.get_drift(session, tenant, name)
    for each in found["monitors"]:
        row = session.get(Drift, (tenant, name, each["monitor"]))
        each["line"] = None if row is None else _line(session, row)
        each["evidence"] = _flat(each["record"].get("evidence"))
        window = each["record"].get("window")
        each["window"] = window if isinstance(window, dict) else {}
    return found


def newest_sample(session: Session, tenant: str) -> int:
    """Return the number of the newest sample there is; 0: none."""
    return session.exec(select(func.max(SampleRow.id)).where(SampleRow.tenant == tenant)).one() or 0


def samples(session: Session, tenant: str, model: str, site: str = "") -> list[dict[str, Any]]:
    """Return the newest samples of a model (at one site), with their sites; pictures where their input can be one."""
    since = newest_sample(session, tenant) - drift_sites.LOOK_BACK
    query = select(SampleRow, Device.tags).join(
        Device, and_(col(Device.tenant) == SampleRow.tenant, col(Device.name) == SampleRow.device), isouter=True
    )
    query = query.where(SampleRow.tenant == tenant, col(SampleRow.id) > since, SampleRow.model == model)
    if site:
        query = query.where(drift_sites.at_site(session.connection().dialect.name, site))
    found = session.exec(query.order_by(col(SampleRow.id).desc()).limit(SAMPLES)).all()
    sites = {row.device: json.loads(tags or "{}").get(SITE, "") for row, tags in found}
    shown = _shown(session, tenant, [row for row, _ in found])
    return [{**each, "site": sites[each["device"]]} for each in shown]


def samples_of_device(session: Session, tenant: str, device: str) -> list[dict[str, Any]]:
    """Return the newest samples of a device."""
    query = select(SampleRow).where(SampleRow.tenant == tenant, SampleRow.device == device)
    return _shown(session, tenant, session.exec(query.order_by(col(SampleRow.id).desc()).limit(DEVICE_SAMPLES)).all())


def _shown(session: Session, tenant: str, rows: Sequence[SampleRow]) -> list[dict[str, Any]]:
    signatures: dict[str, dict[str, Any]] = {}
    found = []
    for row in rows:
        try:
            sample = codec.decode(Sample, row.record.encode())
        except ContractError:
            continue  # a record of a later version of the words; the feed still has it
        if sample.bundle not in signatures:
            bundle = session.get(Bundle, (tenant, sample.bundle))
            signatures[sample.bundle] = {} if bundle is None else json.loads(bundle.manifest)["signature"]
        first = sample.inputs[0] if sample.inputs else None
        found.append(
            {
                "id": row.id,
                "device": row.device,
                "model": row.model,
                "received_ms": row.received_ms,
                "kept": sample.kept.value,
                "confidence": sample.confidence,
                "version": sample.version,
                "answer": answer(sample.outputs, signatures[sample.bundle]),
                "picture": None if first is None else drawing.picture(first),
                "input": "" if first is None else describe(first),
            }
        )
    return found


def answer(outputs: tuple[Tensor, ...], signature: dict[str, Any]) -> str:
    """Return the class a model chose, by its signature; empty where that cannot be said."""
    labels = signature.get("labels") or []
    by_name = {each.name: each for each in outputs}
    scores, label = (by_name.get(str(signature.get(which))) for which in ("score_output", "label_output"))
    if scores is not None and (values := numbers(scores)):
        best = max(range(len(values)), key=lambda i: values[i] if math.isfinite(values[i]) else -math.inf)
        return str(labels[best]) if best < len(labels) else str(best)
    if label is not None and (values := numbers(label)):
        index = int(values[0]) if math.isfinite(values[0]) else -1
        return str(labels[index]) if 0 <= index < len(labels) else f"{values[0]:g}"
    return ""


def numbers(tensor: Tensor, most: int = 4096) -> list[float]:
    """Return a tensor's elements; none where its bytes lie elsewhere or are too many to show."""
    count = math.prod(tensor.shape)
    if tensor.data is None or count > most:
        return []
    return [float(value) for value in struct.unpack(f"<{count}{STRUCT_CODE[tensor.dtype]}", tensor.data)]


def describe(tensor: Tensor) -> str:
    """Return a tensor in one line: type, shape and its first elements."""
    shape = "×".join(map(str, tensor.shape)) or "1"
    values = numbers(tensor)
    shown = ", ".join(f"{value:.3g}" for value in values[:SHOWN_ELEMENTS])
    more = ", …" if len(values) > SHOWN_ELEMENTS else ""
    return f"{tensor.dtype} {shape}: {shown}{more}" if values else f"{tensor.dtype} {shape}"


def _line(session: Session, row: Drift) -> Any:
    history = session.exec(
        select(DriftHistory.score)
        .where(DriftHistory.tenant == row.tenant, DriftHistory.model == row.model, DriftHistory.monitor == row.monitor)
        .order_by(col(DriftHistory.id).desc())
        .limit(POINTS)
    ).all()
    return drawing.sparkline(list(reversed(history)), row.threshold)


def _flat(evidence: Any) -> list[tuple[str, str]]:
    """Return what a monitor rests on as pairs of short texts."""
    if not isinstance(evidence, dict):
        return []
    return [(str(name), value if isinstance(value, str) else json.dumps(value)) for name, value in evidence.items()]
