"""What each device is to run, signed: one assignment a device, its sequence rising, the newest kept and published
retained.

`signed_assignment` is the outbox: a row is written in the transaction that decides, published after it, and published
again after every reconnection, because a broker may forget.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.assignment import AssignedModel, Assignment, SamplingPolicy, Window, target_path
from skerry_contracts.device import ModelHealth, ModelState
from skerry_contracts.shadow import Shadow as ShadowTerms
from skerry_fleet import audit
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.errors import MissingError
from skerry_fleet.lease_boards import orders as measure_orders
from skerry_fleet.shadow_tables import Shadow
from skerry_fleet.sql import bulk
from skerry_fleet.sql.changes import Insert, Update
from skerry_fleet.tables import Bundle, Device, DeviceStatus, Rollout, SignedAssignment

CHUNK = 500
"""Names in one statement at most."""

Sign = Callable[[Assignment], bytes]
"""Signs an assignment and returns the envelope's bytes (trust/director.py)."""


@dataclasses.dataclass(slots=True)
class Wish:
    """What one device is to run of a model. `confirmed`, the newest that proved itself, is the way back."""

    device: str
    model: str
    bundle: str | None = None
    confirmed: str | None = None
    rollout: str = ""
    allow_downgrade: bool = False

    def want(self, bundle: str | None, rollout: str, *, back: bool = False) -> None:
        """Say what is to run (None: nothing). `back`: what ran before, though that is older."""
        self.bundle, self.rollout, self.allow_downgrade = bundle, rollout, back
        if back:
            self.confirmed = bundle

    def confirm(self, bundle: str) -> None:
        """Note that a bundle proved itself: rollbacks lead here from now on."""
        self.confirmed, self.allow_downgrade = bundle, False


def wishes(session: Session, tenant: str, model: str, devices: Iterable[str]) -> dict[str, Wish]:
    """Return what each device is to run of a model; nothing yet, where nobody has said."""
    found = {each.device: each for each in _wishes(session, tenant, devices) if each.model == model}
    return {name: found.get(name) or Wish(name, model) for name in devices}


def keep(session: Session, tenant: str, changed: Iterable[Wish]) -> None:
    """Write what devices are to run."""
    rows = [{"tenant": tenant, **{name: getattr(each, name) for name in Wish.__slots__}} for each in changed]
    bulk.many(session, _WISHED, rows)


def health(session: Session, tenant: str, model: str, devices: Iterable[str]) -> dict[str, ModelHealth]:
    """Return what devices last said of a model, where they did; counts are totals."""
    found = {}
    for device, state, *figures in bulk.among(session, _HEALTH, devices, tenant=tenant, model=model):
        said: dict[str, Any] = dict(zip(_FIGURES, figures, strict=True))
        found[device] = ModelHealth(model=model, state=ModelState(state), **said)
    return found


def issue(
    session: Session, sign: Sign, actor: Actor, now: float, days: float, devices: Mapping[str, str], *, above: int = 0
) -> dict[str, int]:
    """Sign new assignments of everything these devices are to run; `devices` says why, for the audit. Return the new
    sequences, each greater than the device's last one and than `above`.

    Raises:
        MissingError: no such device.
    """
    session.flush()
    tenant, now_ms = actor.tenant, int(now * 1000)
    known_rows = bulk.among(session, _DEVICES, devices, tenant=tenant)
    known = {name: (status, sequence) for name, status, sequence in known_rows}
    kept: dict[str, int] = dict(map(tuple, bulk.among(session, _KEPT, devices, tenant=tenant)))
    wanted: dict[str, list[Wish]] = {device: [] for device in devices}
    for each in _wishes(session, tenant, devices):
        if each.bundle is not None:
            wanted[each.device].append(each)
    beside = {(device, model): shadow for device, model, shadow in bulk.among(session, _BESIDE, devices, tenant=tenant)}
    measuring = measure_orders(session, tenant, devices)
    options, rows, changes = _Options(session, tenant, beside), [], []
    for device, why in devices.items():
        status, last = known.get(device, ("", 0))
        if status != DeviceStatus.ACTIVE:
            raise MissingError(f"no device {device!r:.80}")
        sequence = max(last, above) + 1
        models = options.all(wanted[device])
        expires_s = int(now + days * 86_400)
        assignment = Assignment(tenant, device, sequence, int(now), expires_s, models, measuring.get(device))
        envelope = sign(assignment).decode()
        row = {"tenant": tenant, "device": device, "sequence": sequence, "issued_ms": now_ms, "published": False}
        rows.append({**row, "expires_ms": expires_s * 1000, "envelope": envelope})
        before = {"sequence": kept[device]} if device in kept else None
        after = {"sequence": sequence, "models": {each.model: each.bundle for each in models}, "why": why}
        changes.append((f"device/{device}", before, after))
        announce(session, tenant, "assignment", device=device, sequence=sequence)
    _keep(session, rows)
    audit.write_all(session, actor, now, "assignment.issue", changes)
    return {row["device"]: row["sequence"] for row in rows}


_DEVICES = "SELECT name, status, sequence FROM device WHERE tenant = :tenant AND name {among}"
_WISHES = (
    "SELECT device, model, bundle, confirmed, rollout, allow_downgrade FROM desired"
    " WHERE tenant = :tenant AND device {among}"
)
_BESIDE = "SELECT device, model, shadow FROM shadow_device WHERE tenant = :tenant AND active AND device {among}"
_FIGURES = tuple(name for name in ModelHealth.__slots__ if name not in ("model", "state"))
_HEALTH = (
    f"SELECT name, state, {', '.join(_FIGURES)} FROM device_model"
    " WHERE tenant = :tenant AND model = :model AND name {among}"
)
_WISHED = Insert(
    "desired",
    ("tenant", "device", "model", "bundle", "confirmed", "rollout", "allow_downgrade"),
    "ON CONFLICT (tenant, device, model) DO UPDATE SET bundle = excluded.bundle, confirmed = excluded.confirmed,"
    " rollout = excluded.rollout, allow_downgrade = excluded.allow_downgrade",
)
_KEPT = "SELECT device, sequence FROM signed_assignment WHERE tenant = :tenant AND device {among}"
_NUMBER = Update("device", ("tenant", "name"), ("sequence",))
_OUT = Insert(
    "signed_assignment",
    ("tenant", "device", "sequence", "issued_ms", "expires_ms", "envelope", "published"),
    "ON CONFLICT (tenant, device) DO UPDATE SET sequence = excluded.sequence, issued_ms = excluded.issued_ms,"
    " expires_ms = excluded.expires_ms, envelope = excluded.envelope, published = excluded.published",
)


def sequences(session: Session, tenant: str, devices: Iterable[str]) -> dict[str, int]:
    """Return the number of the newest assignment of each of these devices; those that are none of ours are left out."""
    return {name: sequence for name, _, sequence in bulk.among(session, _DEVICES, devices, tenant=tenant)}


def _wishes(session: Session, tenant: str, devices: Iterable[str]) -> Iterator[Wish]:
    for device, model, bundle, confirmed, rollout, downgrade in bulk.among(session, _WISHES, devices, tenant=tenant):
        yield Wish(device, model, bundle, confirmed, rollout, bool(downgrade))


def _keep(session: Session, rows: list[dict[str, Any]]) -> None:
    """Put signed assignments into the outbox, past the objects that the session may hold of the same rows."""
    if not rows:
        return
    bulk.many(session, _NUMBER, [{**row, "name": row["device"]} for row in rows])
    bulk.many(session, _OUT, rows)
    for row in rows:
        for table in (Device, SignedAssignment):
            held = session.identity_map.get(session.identity_key(table, (row["tenant"], row["device"])))
            if held is not None:
                session.expire(held)


def renew(session: Session, sign: Sign, now: float, days: float, most: int = 200) -> int:
    """Sign anew what is past half of its life; return how many were. A sleeping device then finds a fresh one."""
    old_ms = int((now - days * 43_200) * 1000)
    rows = session.exec(
        select(SignedAssignment)
        .where(SignedAssignment.issued_ms < old_ms, SignedAssignment.envelope != "")
        .order_by(col(SignedAssignment.issued_ms))
        .limit(most)
    ).all()
    for row in rows:
        issue(session, sign, Actor(row.tenant, "system:director"), now, days, {row.device: "renewed"})
    return len(rows)


class _Options:
    """Turns wishes into what assignments say; bundles and rollouts are read once."""

    def __init__(self, session: Session, tenant: str, beside: Mapping[tuple[str, str], str]) -> None:
        self._session, self._tenant, self._beside = session, tenant, beside
        self._shadows: dict[str, ShadowTerms | None] = {}
        self._bundles: dict[tuple[str, str | None], Bundle | None] = {}
        self._rollouts: dict[tuple[str, str], Rollout | None] = {}
        self._made: dict[tuple[Any, ...], tuple[AssignedModel, ...]] = {}

    def all(self, wishes: list[Wish]) -> tuple[AssignedModel, ...]:
        """Return what an assignment says of all models of one device; the same object where it says the same.

        Raises:
            MissingError: a bundle is not in the registry.
        """
        wishes.sort(key=lambda each: each.model)
        key = tuple(
            (each.model, each.bundle, each.rollout, each.allow_downgrade, self._beside.get((each.device, each.model)))
            for each in wishes
        )
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = tuple(map(self.assigned, wishes))
        return found

    def assigned(self, wanted: Wish) -> AssignedModel:
        """Return what an assignment says of one model.

        Raises:
            MissingError: the bundle is not in the registry.
        """
        key, rollout = (self._tenant, wanted.bundle), (self._tenant, wanted.rollout)
        if key not in self._bundles:
            self._bundles[key] = self._session.get(Bundle, key)
        if rollout not in self._rollouts:
            self._rollouts[rollout] = self._session.get(Rollout, rollout)
        bundle, row = self._bundles[key], self._rollouts[rollout]
        if bundle is None:
            raise MissingError(f"no bundle {wanted.bundle}")
        options: dict[str, Any] = json.loads(row.options) if row is not None else {}
        window, sampling = options.get("window"), options.get("sampling")
        return AssignedModel(
            model=wanted.model,
            version=bundle.version,
            release=bundle.release,
            bundle=bundle.id,
            target_path=target_path(wanted.model, bundle.id),
            size_bytes=len(bundle.manifest.encode()),
            rollout=wanted.rollout,
            allow_downgrade=wanted.allow_downgrade or bool(options.get("allow_downgrade")),
            # A way back waits for no maintenance window.
            window=codec.from_plain(Window, window) if window is not None and not wanted.allow_downgrade else None,
            sampling=codec.from_plain(SamplingPolicy, sampling) if sampling is not None else SamplingPolicy(),
            shadow=self._shadow(wanted),
        )

    def _shadow(self, wanted: Wish) -> ShadowTerms | None:
        """Return what a device is to try beside a model; None: nothing, or what it runs already."""
        shadow = self._beside.get((wanted.device, wanted.model))
        if shadow is None:
            return None
        if shadow not in self._shadows:
            row = self._session.get(Shadow, (self._tenant, shadow))
            self._shadows[shadow] = codec.decode(ShadowTerms, row.terms.encode()) if row is not None else None
        found = self._shadows[shadow]
        return found if found is not None and found.bundle != wanted.bundle else None
