"""What the pages about the whole fleet show: questions to the database, in the words of the templates."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_fleet import alerts, audit, devices, feeds, groups, registry, rollout_pairs, rollout_rows
from skerry_fleet import shadow_figures as figures
from skerry_fleet.device_list import list_devices
from skerry_fleet.fleet import Fleet
from skerry_fleet.paging import Page, listing
from skerry_fleet.records import Audit, AuditHead, Drift
from skerry_fleet.rollout_words import Place
from skerry_fleet.tables import Bundle, Device, DeviceState, DeviceStatus

PLACES = tuple(place.value for place in (Place.CONFIRMED, Place.SOAKING, Place.OFFERED, Place.RETRYING, Place.WAITING))
PLACES += tuple(place.value for place in (Place.RETURNING, Place.RETURNED, Place.FAILED))
"""The order of a rollout's bar: settled first, failures at the end."""
SHADOWS = 5
"""The newest, on a model's page."""
WALK_AT_ONCE = 20_000
"""A longer audit chain is walked only when somebody asks: the page must stay quick."""


def overview(session: Session, fleet: Fleet, tenant: str) -> dict[str, Any]:
    """Return the fleet in a few numbers, what is under way, and what is wrong."""
    totals = devices.totals(session, tenant)
    silent = session.exec(
        select(func.count()).where(DeviceState.tenant == tenant, col(DeviceState.silent).is_(True))
    ).one()
    drift = session.exec(select(Drift).where(Drift.tenant == tenant).order_by(col(Drift.model), col(Drift.monitor)))
    return {
        "devices": totals["devices"],
        "online": totals["online"],
        "silent": silent,
        "models": by_model(totals["models"]),
        "rollouts": rollout_rows.list_rollouts(session, tenant, Page(limit=5), status="active")["items"],
        "active_rollouts": rollout_rows.count_active(session, tenant),
        "alerts": alerts.list_alerts(session, tenant, Page(limit=5), "open")["items"],
        "open_alerts": alerts.count_open(session, tenant),
        "drift": [feeds.drift_view(row) for row in drift],
        "messages_per_s": fleet.metrics.messages_per_s(),
    }


def by_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `devices.totals`' models, each once, with its versions (newest word first) and their counts."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        model = found.setdefault(row["model"], {"model": row["model"], "devices": 0, "versions": []})
        model["devices"] += row["devices"]
        model["versions"].append(row)
    for model in found.values():
        model["versions"].sort(key=lambda row: -row["devices"])
    return list(found.values())


def device_list(session: Session, tenant: str, page: Page, **narrowed: Any) -> dict[str, Any]:
    """Return a page of devices, narrowed as `list_devices` is, and the groups there are."""
    active = select(func.count()).where(Device.tenant == tenant, Device.status == DeviceStatus.ACTIVE.value)
    return {
        **list_devices(session, tenant, page, **narrowed),
        "total": session.exec(active).one(),
        "groups": [each["name"] for each in groups.list_groups(session, tenant, Page(limit=500))["items"]],
    }


def models(session: Session, tenant: str, page: Page) -> dict[str, Any]:
    """Return a page of models with where each version runs and whether its monitors see drift."""
    found = registry.list_models(session, tenant, page)
    running = {each["model"]: each for each in by_model(devices.totals(session, tenant)["models"])}
    drifting: dict[str, bool] = {}
    for name, verdict in session.exec(select(Drift.model, Drift.drifting).where(Drift.tenant == tenant)):
        drifting[name] = drifting.get(name, False) or verdict
    for model in found["items"]:
        model["running"] = running.get(model["name"], {"devices": 0, "versions": []})
        model["drifting"] = drifting.get(model["name"])
    return found


def model(session: Session, tenant: str, name: str, page: Page) -> dict[str, Any]:
    """Return a model with a page of its bundles, and its newest shadows.

    Raises:
        MissingError: no such model.
    """
    bundles = registry.list_bundles(session, tenant, name, page)
    totals = by_model(devices.totals(session, tenant)["models"])
    running = next((each for each in totals if each["model"] == name), {"devices": 0, "versions": []})
    shadows = figures.list_shadows(session, tenant, Page(limit=SHADOWS), name)["items"]
    return {"name": name, **bundles, "running": running, "shadows": shadows}


def rollout(session: Session, tenant: str, name: str, place: str, page: Page) -> dict[str, Any]:
    """Return a rollout with its steps, its failures, and a page of its devices.

    Raises:
        MissingError: no such rollout.
    """
    row = rollout_rows.get(session, tenant, name)
    found = rollout_rows.view(row)
    bundle = session.get(Bundle, (tenant, found["bundle"]))
    failed = rollout_rows.list_devices(session, tenant, name, Page(limit=20), Place.FAILED.value)
    return {
        **found,
        "version": bundle.version if bundle is not None else "",
        "steps": steps(found),
        "evidence": rollout_pairs.evidence(session, row),
        "failed": failed["items"],
        "more_failed": failed["next"] is not None,
        "members": rollout_rows.list_devices(session, tenant, name, page, place),
    }


def steps(rollout: dict[str, Any]) -> list[dict[str, str]]:
    """Return canary and waves, each `done`, `now` or `next`; where the rollout has ended early, `skipped`."""
    plan, stage, status = rollout["plan"], rollout["stage"], rollout["status"]
    names = [f"canary: {plan['canary']}"] + [f"wave {i}: {w['percent']} %" for i, w in enumerate(plan["waves"], 1)]
    found = []
    for index, name in enumerate(names):
        state = "done" if index < stage or status == "complete" else "now" if index == stage else "next"
        if status not in ("complete", "running", "paused") and state != "done":
            state = "next" if status == "awaiting-approval" else "stopped" if state == "now" else "skipped"
        found.append({"name": name, "state": state})
    return found


def audit_page(session: Session, tenant: str, page: Page, subject: str) -> dict[str, Any]:
    """Return a page of the audit chain, newest first; of one object where one is named.

    Raises:
        InputError: not a cursor.
    """
    query = select(Audit).where(Audit.tenant == tenant)
    if subject:
        query = query.where(Audit.object == subject)
    if page.after_id is not None:
        query = query.where(Audit.seq < page.after_id)
    rows = session.exec(query.order_by(col(Audit.seq).desc()).limit(page.limit + 1)).all()
    head = session.get(AuditHead, tenant)
    return {
        **listing(rows, page, lambda row: row.model_dump(), lambda row: row.seq),
        "records": head.seq if head else 0,
    }


def chain(session: Session, tenant: str, records: int, asked: bool) -> audit.Verification | None:
    """Return what a walk along the audit chain found; None where it is long and nobody asked."""
    return audit.verify(session, tenant) if asked or records <= WALK_AT_ONCE else None


def bundle(session: Session, tenant: str, name: str) -> dict[str, Any]:
    """Return a bundle with its variants, its promise and the tournament's candidates.

    Raises:
        MissingError: no such bundle.
    """
    found = registry.show(session, tenant, name)
    evidence = found["evidence"] or {}
    return {**found, "candidates": evidence.get("candidates", []), "original": evidence.get("original")}
