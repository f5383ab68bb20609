"""What a shadow came to: sums over devices and windows, how sure they are, and the inputs on which it disagreed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.shadow import latency_quantile_ms
from skerry_contracts.sketch import Histogram
from skerry_fleet import shadow_orders as orders
from skerry_fleet.paging import Page, listing
from skerry_fleet.records import SampleRow
from skerry_fleet.shadow_tables import Shadow, ShadowDevice, ShadowReportRow
from skerry_fleet.tables import Bundle

SUMS = ("chosen", "compared", "disagreed", "dropped", "failed")
Z = 1.959964  # of a 95 % interval
REPORTS = 5000  # the newest, for latencies: their sum says no more with others added
LOOK_BACK = 20_000
SAMPLES = 24


def interval(parts: Sequence[tuple[int, int]]) -> dict[str, Any] | None:
    """Return the agreement rate with a 95 % interval, from each device's (compared, disagreed); None without any.

    Wilson's score interval (1927), with the count divided by the design effect of devices as clusters (Kish, 1965): one
    device's predictions resemble each other, and many of one device say less than as many of many. `effect` is by how
    much; 1 where there is only one device, whose own stream is then all that is spoken for.
    """
    parts = [(count, differing) for count, differing in parts if count]
    total, differing = sum(count for count, _ in parts), sum(each for _, each in parts)
    if not total:
        return None
    rate = 1.0 - differing / total
    effect, plain = 1.0, rate * (1 - rate) / total
    if len(parts) > 1 and plain > 0:
        spread = sum((count - each - rate * count) ** 2 for count, each in parts) / total**2
        effect = max(1.0, spread * len(parts) / (len(parts) - 1) / plain)
    n = total / effect
    centre = (rate + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"rate": rate, "low": min(low, rate), "high": max(high, rate), "effect": effect}


def view(session: Session, row: Shadow) -> dict[str, Any]:
    """Return a shadow with its figures, as the API shows it."""
    devices = _sums(session, row)
    members = session.exec(select(ShadowDevice).where(ShadowDevice.tenant == row.tenant, ShadowDevice.shadow == row.id))
    states: dict[str, int] = {}
    active = 0
    for each in members:
        states[each.state or "assigned"] = states.get(each.state or "assigned", 0) + 1
        active += each.active
    bundle = session.get(Bundle, (row.tenant, row.bundle))
    shown = row.model_dump(exclude={"tenant", "terms", "chosen", "number"})
    return {
        **shown,
        "group": row.group or None,
        "rollout": row.rollout or None,
        "version": bundle.version if bundle is not None else "",
        "terms": orders.terms_of(row),
        "devices": sum(states.values()),
        "active": active,
        "states": states,
        **{name: sum(each[name] for each in devices.values()) for name in SUMS},
        "cpu_s": round(sum(each["cpu_s"] for each in devices.values()), 3),
        "agreement": interval([(each["compared"], each["disagreed"]) for each in devices.values()]),
        "latency": _latency(session, row),
        "against": _against(session, row),
    }


def list_shadows(session: Session, tenant: str, page: Page, model: str = "", status: str = "") -> dict[str, Any]:
    """Return one page of shadows, newest first."""
    query = select(Shadow).where(Shadow.tenant == tenant)
    if model:
        query = query.where(Shadow.model == model)
    if status:
        query = query.where(Shadow.status == status)
    if page.after_id is not None:
        query = query.where(Shadow.number < page.after_id)
    rows = session.exec(query.order_by(col(Shadow.number).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, lambda row: view(session, row), lambda row: row.number)


def list_devices(session: Session, tenant: str, shadow: str, page: Page) -> dict[str, Any]:
    """Return one page of a shadow's devices, each with its own sums.

    Raises:
        MissingError: no such shadow.
    """
    row = orders.get(session, tenant, shadow)
    sums = _sums(session, row)
    query = select(ShadowDevice).where(
        ShadowDevice.tenant == tenant, ShadowDevice.shadow == shadow, ShadowDevice.device > page.after
    )
    rows = session.exec(query.order_by(col(ShadowDevice.device)).limit(page.limit + 1)).all()
    nothing = dict.fromkeys(SUMS, 0)

    def one(each: ShadowDevice) -> dict[str, Any]:
        hidden = {"tenant", "shadow", "model", "told_boot", "told_seq"}
        return {**each.model_dump(exclude=hidden), **sums.get(each.device, nothing)}

    return listing(rows, page, one, lambda each: each.device)


def samples(session: Session, tenant: str, shadow: str, limit: int = SAMPLES) -> list[tuple[SampleRow, Sample]]:
    """Return the newest samples that were kept because this candidate said something else.

    Raises:
        MissingError: no such shadow.
    """
    row = orders.get(session, tenant, shadow)
    newest = session.exec(select(func.max(SampleRow.id)).where(SampleRow.tenant == tenant)).one() or 0
    query = (
        select(SampleRow)
        .where(
            SampleRow.tenant == tenant,
            col(SampleRow.id) > newest - LOOK_BACK,
            SampleRow.model == row.model,
            col(SampleRow.record).contains(f'"kept":"{Kept.DISAGREEING}"'),
            col(SampleRow.record).contains(f'"shadow":"{shadow}"'),
        )
        .order_by(col(SampleRow.id).desc())
        .limit(limit)
    )
    found = []
    for each in session.exec(query).all():
        try:
            found.append((each, codec.decode(Sample, each.record.encode())))
        except ContractError:
            continue  # of a later version of the words; the feed still has it
    return found


def _of(row: Shadow) -> tuple[ColumnElement[bool], ...]:
    """Return what selects a shadow's reports: those of its own devices."""
    own = select(ShadowDevice.device).where(ShadowDevice.tenant == row.tenant, ShadowDevice.shadow == row.id)
    return (
        col(ShadowReportRow.tenant) == row.tenant,
        col(ShadowReportRow.shadow) == row.id,
        col(ShadowReportRow.device).in_(own),
    )


def _sums(session: Session, row: Shadow) -> dict[str, dict[str, Any]]:
    """Return each device's sums."""
    columns = [func.sum(getattr(ShadowReportRow, name)) for name in (*SUMS, "cpu_s")]
    query = select(ShadowReportRow.device, *columns).where(*_of(row)).group_by(col(ShadowReportRow.device))
    return {
        found[0]: {**{name: int(value) for name, value in zip(SUMS, found[1:6], strict=True)}, "cpu_s": float(found[6])}
        for found in session.exec(query).all()
    }


def _against(session: Session, row: Shadow) -> list[dict[str, Any]]:
    """Return what served meanwhile, each with its own agreement."""
    query = (
        select(
            ShadowReportRow.against,
            ShadowReportRow.device,
            func.sum(ShadowReportRow.compared),
            func.sum(ShadowReportRow.disagreed),
        )
        .where(*_of(row), ShadowReportRow.compared > 0)
        .group_by(col(ShadowReportRow.against), col(ShadowReportRow.device))
    )
    parts: dict[str, list[tuple[int, int]]] = {}
    for bundle, _, compared, disagreed in session.exec(query).all():
        parts.setdefault(bundle, []).append((int(compared), int(disagreed)))
    found = []
    for each, counts in sorted(parts.items()):
        bundle_row = session.get(Bundle, (row.tenant, each))
        version = bundle_row.version if bundle_row is not None else ""
        found.append({"bundle": each, "version": version, "devices": len(counts), "agreement": interval(counts)})
    return found


def _latency(session: Session, row: Shadow) -> dict[str, float | None]:
    """Return median and 95th percentile of both workers, on the same inputs."""
    query = (
        select(ShadowReportRow.record)
        .where(*_of(row), ShadowReportRow.compared > 0)
        .order_by(col(ShadowReportRow.id).desc())
        .limit(REPORTS)
    )
    records = [json.loads(record) for record in session.exec(query).all()]
    both = {
        "live": _merged(each["live_latency"]["counts"] for each in records if "live_latency" in each),
        "shadow": _merged(each["latency"]["counts"] for each in records if "latency" in each),
    }
    shares = (("p50", 0.5), ("p95", 0.95))
    return {
        f"{who}_{name}_ms": latency_quantile_ms(found, share) for who, found in both.items() for name, share in shares
    }


def _merged(parts: Iterable[Sequence[int]]) -> Histogram:
    """Return histograms added up; those of reports lack the empty bins at their end."""
    total: list[int] = []
    for part in parts:
        total += [0] * (len(part) - len(total))
        for place, count in enumerate(part):
            total[place] += count
    return Histogram("latency_ms", tuple(total))
