"""What a rollout would do, without doing it: who gets the bundle and who does not and why, how many bytes, how long."""

from __future__ import annotations

import dataclasses
import heapq
from collections import Counter
from typing import Any

from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.bundle import Blob, Manifest, Variant
from skerry_contracts.device import Hardware, Phase, Reason
from skerry_fleet import groups
from skerry_fleet import rollout_checks as checks
from skerry_fleet import rollout_machine as machine
from skerry_fleet import rollout_stages as places
from skerry_fleet.rollout_plan import Plan
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import BLOCKING, Heard, Offer, Place, Reported, State, Status, Tick
from skerry_fleet.tables import Bundle, Desired, Device, DeviceState, Rollout, RolloutDevice
from skerry_targets.fit import fitting, missing_for

EXAMPLES = 5
REHEARSED = 5000
"""More devices than this are rehearsed by this many, with budgets in proportion."""


def preview(session: Session, tenant: str, request: RolloutRequest) -> dict[str, Any]:
    """Return what a rollout that is asked for like this would do now.

    Raises:
        MissingError: no such bundle or group.
        ConflictError: the bundle is of another model, or not published.
    """
    bundle = checks.usable(session, tenant, request)
    manifest = codec.decode(Manifest, bundle.manifest.encode())
    sizes: list[int] = []
    reachable = 0
    excluded: dict[str, list[str]] = {}
    refused = False
    busy = _busy(session, tenant, request.model)
    newer = set() if request.allow_downgrade else _newer(session, tenant, bundle)
    cache: dict[str, tuple[int | None, str]] = {}
    for name, hardware, online in _devices(session, tenant, request.group or ""):
        if hardware not in cache:
            cache[hardware] = _fit(manifest, codec.decode(Hardware, hardware.encode()))
        size, why = cache[hardware]
        if size is None:
            excluded.setdefault(why, []).append(name)
        elif name in busy and not request.supersede:
            refused, why = True, f"in rollout {busy[name]}, which is under way (supersede takes them over)"
            excluded.setdefault(why, []).append(name)
        elif name in newer:
            refused, why = True, "runs a newer release (allow_downgrade goes back on purpose)"
            excluded.setdefault(why, []).append(name)
        else:
            sizes.append(size)
            reachable += bool(online)
    plan = request.plan()
    return {
        "model": bundle.model,
        "bundle": bundle.id,
        "devices": len(sizes),
        "reachable": reachable,
        "excluded": [
            {"why": why, "devices": len(names), "such_as": sorted(names)[:EXAMPLES]}
            for why, names in sorted(excluded.items(), key=lambda each: -len(each[1]))
        ],
        "starts": bool(sizes) and not refused,
        "bytes_each": [{"bytes": size, "devices": count} for size, count in Counter(sizes).most_common()],
        "bytes_total": sum(sizes),
        "stages": stages(plan, len(sizes)),
        "least_s": None if not sizes else rehearse(plan, len(sizes), bundle.size_bytes),
    }


def stages(plan: Plan, count: int) -> list[dict[str, Any]]:
    """Return how many devices each stage adds."""
    state = State("preview", "", plan, Status.RUNNING, members=dict.fromkeys(map(str, range(count))))  # type: ignore[arg-type]
    found, before = [], 0
    for stage in range(len(plan.waves) + 1):
        state.stage = stage
        reached = places.quota(state)
        name = "canary" if stage == 0 else f"wave {stage} ({plan.waves[stage - 1].percent} %)"
        found.append({"stage": name, "devices": reached - before})
        before = reached
    held = max(0, -(-count * plan.waves[-1].percent // 100) - before)
    return [*found, {"stage": "held out", "devices": held}] if held else found


def rehearse(plan: Plan, count: int, size_bytes: int) -> float:
    """Return how many seconds a rollout takes at the least: the real machine, with devices that are all there, install
    at once and do well.
    """
    scale = min(1.0, REHEARSED / count)
    some = max(1, round(count * scale))
    small = dataclasses.replace(
        plan,
        approval=False,
        canary=max(1, round(plan.canary * scale)),
        exposure_budget=max(plan.failure_budget + 1, round(plan.exposure_budget * scale)),
        waves=tuple(
            dataclasses.replace(wave, in_flight=wave.in_flight and max(1, round(wave.in_flight * scale)))
            for wave in plan.waves
        ),
        per_minute=plan.per_minute * scale,
        grow_after=round(plan.grow_after * scale),
        bytes_per_s=plan.bytes_per_s and max(1, round(plan.bytes_per_s * scale)),
    )
    names = [(str(index), True) for index in range(some)]
    state = machine.start("preview", "new", small, names, 0.0, size_bytes)
    soaking: list[tuple[float, str]] = []
    now = 0.0
    _, effects = machine.step(state, Tick(), now)
    while True:
        offered = [effect.device for effect in effects if isinstance(effect, Offer)]
        effects = []
        for device in offered:
            effects += machine.step(state, Reported(device, "new", 1, Phase.COMMITTED, Reason.OK), now)[1]
            if plan.soak_s:
                heapq.heappush(soaking, (now + plan.soak_s, device))
        if effects:
            continue
        paced = state.paced - places.BURST_S if places.wants(state) else None
        if soaking and (paced is None or soaking[0][0] <= paced):
            now, device = heapq.heappop(soaking)
            _, effects = machine.step(state, Heard(device, "new", 1, True), now)
        elif paced is not None:
            now = max(now, paced)
            _, effects = machine.step(state, Tick(), now)
        elif not any(state.counts[place] for place in (Place.OFFERED, Place.SOAKING)):
            return round(now, 3)


def _fit(manifest: Manifest, hardware: Hardware) -> tuple[int | None, str]:
    """Return how many bytes such a device fetches; None and why not, where it cannot run the bundle."""
    variants = fitting(manifest.variants, hardware)
    if variants:
        return _bytes(manifest, variants[0]), ""
    nearest = min((missing_for(each, hardware) for each in manifest.variants), key=len)
    return None, "; ".join(nearest)


def _bytes(manifest: Manifest, variant: Variant) -> int:
    blobs: dict[str, Blob] = {blob.sha256: blob for blob in variant.blobs.values()}
    for blob in (manifest.golden.inputs, manifest.golden.outputs):
        blobs[blob.sha256] = blob
    return sum(blob.size_bytes for blob in blobs.values())


def _devices(session: Session, tenant: str, group: str) -> list[tuple[str, str, bool | None]]:
    inside = set(groups.members(session, tenant, group))
    joined = (col(DeviceState.tenant) == col(Device.tenant)) & (col(DeviceState.name) == col(Device.name))
    rows = session.exec(
        select(Device.name, Device.hardware, DeviceState.online)
        .join(DeviceState, joined, isouter=True)
        .where(Device.tenant == tenant)
    )
    return [(name, hardware, online) for name, hardware, online in rows if name in inside]


def _busy(session: Session, tenant: str, model: str) -> dict[str, str]:
    """Return the devices that a rollout of the model holds, and which one."""
    joined = (col(Rollout.tenant) == col(RolloutDevice.tenant)) & (col(Rollout.id) == col(RolloutDevice.rollout))
    rows = session.exec(
        select(RolloutDevice.device, RolloutDevice.rollout)
        .join(Rollout, joined)
        .where(RolloutDevice.tenant == tenant, RolloutDevice.model == model, col(RolloutDevice.active).is_(True))
        .where(col(Rollout.status).in_([status.value for status in BLOCKING]))
    )
    return {str(device): str(rollout) for device, rollout in rows}


def _newer(session: Session, tenant: str, bundle: Bundle) -> set[str]:
    joined = (col(Bundle.tenant) == col(Desired.tenant)) & (col(Bundle.id) == col(Desired.bundle))
    query = select(Desired.device).join(Bundle, joined).where(Desired.tenant == tenant, Desired.model == bundle.model)
    return set(session.exec(query.where(Bundle.release > bundle.release)))
