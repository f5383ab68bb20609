"""A rollout between its rows and the machine: loading after a restart, saving what an event changed, showing it to
people.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import func, update
from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.assignment import SamplingPolicy, Window
from skerry_contracts.device import ModelHealth
from skerry_fleet import rollout_kept, rollout_pairs
from skerry_fleet import rollout_machine as machine
from skerry_fleet import rollout_stages as stages
from skerry_fleet.comparison import Comparison, Gate
from skerry_fleet.errors import MissingError
from skerry_fleet.paging import Page, listing
from skerry_fleet.regression import Limits, Tally
from skerry_fleet.rollout_kept import Kept
from skerry_fleet.rollout_plan import Plan, Wave
from skerry_fleet.rollout_words import BLOCKING, OVER, Effect, Left, RolloutEvent, State, Status
from skerry_fleet.tables import Bundle, Rollout, RolloutDevice

UNDER_WAY = [status.value for status in (*BLOCKING, Status.ROLLING_BACK)]


@dataclasses.dataclass(frozen=True, slots=True)
class RolloutRequest:
    """What is asked of a new rollout; see `Plan`, `Limits` and `Gate`. `group` None: all devices.

    `supersede` takes devices over from rollouts that are still under way. `allow_downgrade` lets an older release in.
    """

    model: str
    bundle: str
    group: str | None = None
    canary: int = 1
    waves: tuple[Wave, ...] = (Wave(100),)
    soak_s: float = 30.0
    failure_budget: int = 0
    exposure_budget: int = 5
    timeout_s: float = 86_400.0
    retries: int = 2
    retry_s: float = 30.0
    approval: bool = False
    holdout: int = 0
    per_minute: float = 0.0
    growth: float = 2.0
    grow_after: int = 0
    bytes_per_s: int = 0
    allow_downgrade: bool = False
    supersede: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)
    gate: Gate = dataclasses.field(default_factory=Gate)
    sampling: SamplingPolicy | None = None
    window: Window | None = None

    def plan(self) -> Plan:
        """Return the machine's part of the request."""
        return Plan(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Plan)})

    def options(self) -> dict[str, Any]:
        """Return what goes into assignments, as JSON."""
        fields = {"window": self.window, "sampling": self.sampling, "allow_downgrade": self.allow_downgrade}
        options: dict[str, Any] = codec.to_plain({name: value for name, value in fields.items() if value is not None})
        return {**options, "limits": dataclasses.asdict(self.limits), "gate": dataclasses.asdict(self.gate)}


@dataclasses.dataclass(slots=True)
class Live:
    """A rollout in memory: the machine's state, and what its effects need. Everything but the tallies and open
    pairs is in the rows.
    """

    tenant: str
    model: str
    group: str
    created_ms: int
    state: State
    limits: Limits
    comparison: Comparison
    kept: dict[str, Kept] = dataclasses.field(default_factory=dict)
    baselines: dict[str, ModelHealth | None] = dataclasses.field(default_factory=dict)
    tallies: dict[str, Tally] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """The row's key."""
        return self.tenant, self.state.rollout

    def baseline(self, device: str) -> ModelHealth | None:
        """Return a device's health before it was offered the bundle, where it is known; read when it is asked for."""
        if device not in self.baselines:
            text = self.kept_of(device).baseline
            self.baselines[device] = codec.decode(ModelHealth, text.encode()) if text else None
        return self.baselines[device]

    @property
    def cut_short(self) -> bool:
        """Whether more would have been offered if one transaction took it."""
        return self.state.left <= 0 and stages.wants(self.state)

    def kept_of(self, device: str) -> Kept:
        """Return what is kept of a device besides its place."""
        found = self.kept.get(device)
        if found is None:
            found = self.kept[device] = Kept()
        return found


class Pending:
    """Effects of several events, kept until they are carried out together."""

    def __init__(self) -> None:
        self.pending: dict[tuple[str, str], tuple[Live, tuple[Status, int], list[Effect], bool]] = {}

    def take(self, live: Live, event: RolloutEvent, now: float) -> None:
        """Let the machine take in one event."""
        before = (live.state.status, live.state.stage)
        _, effects = machine.step(live.state, event, now)
        _, before, earlier, left = self.pending.get(live.key, (live, before, [], False))
        earlier.extend(effects)
        self.pending[live.key] = (live, before, earlier, left or isinstance(event, Left))


def load(session: Session) -> list[Live]:
    """Return every rollout that something can still happen to, as its rows say."""
    return [_load(session, row) for row in session.exec(select(Rollout).where(col(Rollout.active).is_(True))).all()]


def _load(session: Session, row: Rollout) -> Live:
    plan = codec.from_plain(Plan, json.loads(row.plan))
    bundle = session.get(Bundle, (row.tenant, row.bundle))
    state = State(row.id, row.bundle, plan, Status(row.status), row.stage, row.allowance, row.reason)
    state.size_bytes = bundle.size_bytes if bundle is not None else 0
    options = json.loads(row.options)
    limits = codec.from_plain(Limits, options.get("limits", {}))
    gate = codec.from_plain(Gate, options.get("gate", {}))
    comparison = Comparison(gate, rollout_pairs.scores(session, row.tenant, row.id))
    live = Live(row.tenant, row.model, row.group, row.created_ms, state, limits, comparison)
    members = []
    for member, kept in rollout_kept.read(session, row.tenant, row.id):
        members.append(member)
        live.kept[member.device] = kept
    machine.restore(state, members)
    return live


class Told(NamedTuple):
    """What one device said of one update: the part of a `ProgressRow` that rollouts look at."""

    id: int
    tenant: str
    device: str
    rollout: str
    model: str
    bundle: str
    sequence: int
    phase: str
    reason: str
    detail: str


_TOLD = sqlalchemy.text(f"SELECT {', '.join(Told._fields)} FROM progress WHERE id > :position ORDER BY id LIMIT :most")


def told(session: Session, position: int, most: int) -> list[Told]:
    """Return what devices have said since a position in the table of progress."""
    return [Told(*row) for row in session.connection().execute(_TOLD, {"position": position, "most": most})]


def save(session: Session, live: Live, now: float) -> None:
    """Write what the last events changed."""
    state = live.state
    names = sorted(state.changed & state.members.keys())
    row = {"tenant": live.tenant, "rollout": state.rollout, "model": live.model}
    rollout_kept.write(session, row, [(state.members[name], live.kept_of(name)) for name in names])
    state.changed.clear()
    row_of = session.get(Rollout, live.key)
    if row_of is None:
        raise MissingError(f"no rollout {state.rollout}")
    if (
        state.members or row_of.counts == "{}"
    ):  # the last figures of a rollout whose devices went on stay for the record
        row_of.counts = codec.canonical_json({place.value: count for place, count in state.counts.items()}).decode()
    row_of.status, row_of.stage, row_of.allowance = state.status.value, state.stage, state.allowance
    row_of.reason, row_of.updated_ms = state.reason, int(now * 1000)
    row_of.active = state.status not in OVER and bool(state.members)
    session.add(row_of)


def deactivate(session: Session, live: Live, devices: Collection[str] | None = None) -> None:
    """Let devices (None: all) go from a rollout: another may have them."""
    session.flush()
    statement = update(RolloutDevice).where(
        col(RolloutDevice.tenant) == live.tenant, col(RolloutDevice.rollout) == live.state.rollout
    )
    if devices is not None:
        statement = statement.where(col(RolloutDevice.device).in_(devices))
    session.exec(statement.values(active=False))


def get(session: Session, tenant: str, rollout: str) -> Rollout:
    """Return a rollout's row.

    Raises:
        MissingError: no such rollout.
    """
    row = session.get(Rollout, (tenant, rollout))
    if row is None:
        raise MissingError(f"no rollout {rollout!r:.80}", hint="`skerry fleet rollout list` shows what there is")
    return row


def view(row: Rollout) -> dict[str, Any]:
    """Return a rollout as the API shows it; `exposure` counts against `limit`."""
    counts = json.loads(row.counts)
    plan = json.loads(row.plan)
    unconfirmed = counts.get("offered", 0) + counts.get("retrying", 0) + counts.get("soaking", 0)
    failed = counts.get("failed", 0)
    shown = row.model_dump(exclude={"tenant", "plan", "options", "counts"})
    return {
        **shown,
        "group": row.group or None,
        "stage_name": "canary" if row.stage == 0 else f"wave {row.stage} ({plan['waves'][row.stage - 1]['percent']} %)",
        "stages": len(plan["waves"]) + 1,
        "counts": counts,
        "devices": sum(counts.values()),
        "exposure": unconfirmed + failed,
        "limit": min(row.allowance, plan["exposure_budget"]) if failed else row.allowance,
        "plan": plan,
        "options": json.loads(row.options),
    }


def list_rollouts(session: Session, tenant: str, page: Page, model: str = "", status: str = "") -> dict[str, Any]:
    """Return one page of rollouts, newest first; `status` may be `active` for those under way."""
    query = select(Rollout).where(Rollout.tenant == tenant)
    if model:
        query = query.where(Rollout.model == model)
    if status == "active":
        query = query.where(col(Rollout.status).in_(UNDER_WAY))
    elif status:
        query = query.where(Rollout.status == status)
    if page.after_id is not None:
        query = query.where(Rollout.number < page.after_id)
    rows = session.exec(query.order_by(col(Rollout.number).desc()).limit(page.limit + 1)).all()
    return listing(rows, page, view, lambda row: row.number)


def list_devices(session: Session, tenant: str, rollout: str, page: Page, place: str = "") -> dict[str, Any]:
    """Return one page of a rollout's devices; those in one place where one is named.

    Raises:
        MissingError: no such rollout.
    """
    get(session, tenant, rollout)
    query = select(RolloutDevice).where(
        RolloutDevice.tenant == tenant, RolloutDevice.rollout == rollout, RolloutDevice.device > page.after
    )
    if place:
        query = query.where(RolloutDevice.place == place)
    rows = session.exec(query.order_by(col(RolloutDevice.device)).limit(page.limit + 1)).all()
    hidden = {"tenant", "rollout", "model", "baseline", "active"}
    return listing(rows, page, lambda row: row.model_dump(exclude=hidden), lambda row: row.device)


def count_active(session: Session, tenant: str) -> int:
    """Return how many rollouts are under way."""
    query = select(func.count()).where(Rollout.tenant == tenant, col(Rollout.status).in_(UNDER_WAY))
    return session.exec(query).one()
