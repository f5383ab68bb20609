"""The rollout service: the pure machine against the tables.

States are kept in memory and written in the transaction of every change, so a restart goes on from the rows alone;
where a transaction fails, memory is thrown away and loaded again. Progress is read from its table behind a cursor that
moves in the same transaction: what devices said while nobody looked is never lost and never counts twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, select

from skerry_contracts import codec
from skerry_contracts.device import Hardware, Heartbeat, Phase, Reason
from skerry_fleet import audit, groups, registry, rollout_machine, rollout_rows
from skerry_fleet import rollout_checks as checks
from skerry_fleet.audit import Actor
from skerry_fleet.comparison import Comparison
from skerry_fleet.config import RandomBytes
from skerry_fleet.database import Database
from skerry_fleet.errors import ConflictError
from skerry_fleet.ingest import Incoming
from skerry_fleet.records import Cursor
from skerry_fleet.rollout_effects import Executor
from skerry_fleet.rollout_rows import Live, Pending, RolloutRequest, Told
from skerry_fleet.rollout_words import (
    BLOCKING,
    OVER,
    WATCHED,
    Harmed,
    Joined,
    Left,
    Order,
    Ordered,
    Place,
    Reached,
    Reported,
    RolloutEvent,
    Status,
    Tick,
)
from skerry_fleet.tables import Device, DeviceState, Rollout

SYSTEM = "system:rollout"
INBOX = "rollouts"
INBOX_PAGE = 1000
OFFERS_A_TURN = 1000  # in one transaction at most: while the next are signed, the last are on their way
_JOINABLE = (Status.AWAITING_APPROVAL, Status.RUNNING, Status.PAUSED, Status.COMPLETE)


class Rollouts:
    """All rollouts of a fleet. Every method that takes a session wants one from `open`."""

    def __init__(self, database: Database, executor: Executor, random: RandomBytes) -> None:
        self._database = database
        self._executor = executor
        self._random = random
        self._live: dict[tuple[str, str], Live] | None = None
        self.more = False  # offers wait for nothing but the next `tick`

    @contextlib.contextmanager
    def open(self) -> Iterator[Session]:
        """Give the writing session, with the rollouts in memory as the rows are."""
        try:
            with self._database.write() as session:
                if self._live is None:
                    self._live = {live.key: live for live in rollout_rows.load(session)}
                for live in self._live.values():
                    live.state.left = OFFERS_A_TURN
                yield session
                self.more = any(live.cut_short for live in self._live.values())
        except BaseException:
            self._live = None  # memory may be ahead of the rows that were rolled back
            raise

    def create(self, session: Session, actor: Actor, now: float, request: RolloutRequest) -> dict[str, Any]:
        """Start a rollout (or, with approval, make it ready).

        Raises:
            MissingError: no such bundle, model or group.
            ConflictError: not published, no device fits, devices are in another rollout, or an older release.
        """
        bundle = checks.usable(session, actor.tenant, request)
        devices = checks.fitting_devices(session, actor.tenant, request.group or "", bundle)
        checks.check_release(session, actor.tenant, bundle, devices, request)
        self._take_over(session, actor, now, request, [device for device, _ in devices])
        number = session.exec(select(func.max(Rollout.number)).where(Rollout.tenant == actor.tenant)).one() or 0
        row = Rollout(
            tenant=actor.tenant,
            id=f"r{number + 1}-{self._random(4).hex()}",
            number=number + 1,
            model=bundle.model,
            bundle=bundle.id,
            group=request.group or "",
            plan=codec.encode(request.plan()).decode(),
            options=codec.canonical_json(request.options()).decode(),
            status="",
            created_ms=int(now * 1000),
            created_by=actor.name,
            updated_ms=int(now * 1000),
        )
        state = rollout_machine.start(row.id, bundle.id, request.plan(), devices, now, bundle.size_bytes)
        row.status, state.left = state.status.value, OFFERS_A_TURN
        comparison = Comparison(request.gate)
        live = Live(actor.tenant, bundle.model, row.group, row.created_ms, state, request.limits, comparison)
        session.add(row)
        session.flush()
        after = {"model": row.model, "bundle": row.bundle, "group": row.group, "devices": len(devices)}
        audit.write(session, actor, now, "rollout.create", f"rollout/{row.id}", None, {**after, "status": row.status})
        self._states[live.key] = live
        self._executor.announce(session, live)
        self._apply(session, Actor(actor.tenant, SYSTEM, actor.request), now, live, Tick())
        return rollout_rows.view(row)

    def order(
        self, session: Session, actor: Actor, now: float, rollout: str, order: Order, reason: str = ""
    ) -> dict[str, Any]:
        """Approve, pause, resume, abort or roll back.

        Raises:
            MissingError: no such rollout.
            ConflictError: its status does not allow it, or the one who started it would approve it.
        """
        row = rollout_rows.get(session, actor.tenant, rollout)
        if order is Order.APPROVE and row.status == Status.AWAITING_APPROVAL and actor.name == row.created_by:
            words = f"rollout {row.id} was started by {actor.name}, who cannot approve it"
            raise ConflictError(words, hint="ask another person, with a key of their own")
        live = self._states.get((actor.tenant, row.id))
        if live is None:
            raise ConflictError(f"rollout {row.id} is {row.status}", hint="start a new rollout")
        self._apply(session, actor, now, live, Ordered(order, reason[:500]))
        return rollout_rows.view(row)

    def observe(
        self, session: Session, now: float, beats: Iterable[Incoming], turned: Iterable[tuple[str, str, bool]]
    ) -> None:
        """Take in what ingest has just committed: progress from its table, and these heartbeats and presences."""
        for tenant, device, online in turned:
            for live in self._of(tenant, device):
                self._apply(session, Actor(tenant, SYSTEM), now, live, Reached(device, online))
        self._read_progress(session, now)
        heard, beats = Pending(), list(beats)
        for beat in beats:
            heartbeat: Heartbeat = beat.record
            for live in self._of(beat.tenant, beat.device):
                heard.take(live, self._executor.heard(session, now, live, beat.device, heartbeat), now)
        self._settle(session, now, heard)
        self._executor.catch_up(session, now, beats)

    def unreachable(self, session: Session, now: float, devices: Iterable[tuple[str, str]]) -> None:
        """Take in that devices have fallen silent."""
        self.observe(session, now, (), [(tenant, device, False) for tenant, device in devices])

    def tick(self, session: Session, now: float) -> None:
        """Let time pass."""
        for live in self._ordered():
            due = rollout_machine.next_due(live.state)
            if due is not None and due <= now:
                self._apply(session, Actor(live.tenant, SYSTEM), now, live, Tick())

    def joined(self, session: Session, now: float, tenant: str, device: str) -> None:
        """Bring a device that is new in the fleet or in a group into the newest rollout of each model that covers
        it.
        """
        row = session.get(Device, (tenant, device))
        if row is None:
            return
        inside = {"", *groups.groups_of(session, tenant, [device])[device]}
        newest: dict[str, Live] = {}
        for live in self._ordered():
            if live.tenant == tenant and live.group in inside and live.state.status in _JOINABLE:
                newest[live.model] = live
        hardware = codec.decode(Hardware, row.hardware.encode())
        state = session.get(DeviceState, (tenant, device))
        for live in newest.values():
            bundle = registry.get(session, tenant, live.state.bundle)
            if device in live.state.members or not checks.fits(bundle, hardware):
                continue
            others = [each for each in self._of(tenant, device) if each.model == live.model]
            if any(other.state.status in BLOCKING or other.created_ms > live.created_ms for other in others):
                continue
            self._remove(session, now, tenant, live.model, [device])
            self._apply(session, Actor(tenant, SYSTEM), now, live, Joined(device, state is not None and state.online))

    def left(self, session: Session, now: float, tenant: str, device: str) -> None:
        """Take a device that is leaving the fleet out of every rollout."""
        for model in sorted({live.model for live in self._of(tenant, device)}):
            self._remove(session, now, tenant, model, [device])

    def covers(self, tenant: str, group: str) -> bool:
        """Say whether devices that join a group join a rollout with it."""
        lives = [live for live in self._states.values() if (live.tenant, live.group) == (tenant, group)]
        return any(live.state.status in _JOINABLE for live in lives)

    def unmatched(self, session: Session, now: float, tenant: str, group: str, devices: Iterable[str]) -> None:
        """Take devices that left a group out of its rollouts, where they were not offered anything yet."""
        gone = set(devices)
        for live in self._ordered():
            members = live.state.members if (live.tenant, live.group) == (tenant, group) else {}
            if waits := sorted(name for name in gone & members.keys() if members[name].place is Place.WAITING):
                rollout_rows.deactivate(session, live, waits)
                self._apply(session, Actor(tenant, SYSTEM), now, live, *map(Left, waits))

    # Inside
    # ------------------------------------------------------------------------------------------------------------

    @property
    def _states(self) -> dict[tuple[str, str], Live]:
        if self._live is None:
            raise RuntimeError("rollouts are used outside `open`")
        return self._live

    def _ordered(self) -> list[Live]:
        return sorted(self._states.values(), key=lambda live: (live.created_ms, live.key))

    def _of(self, tenant: str, device: str) -> list[Live]:
        return [live for live in self._ordered() if live.tenant == tenant and device in live.state.members]

    def _apply(self, session: Session, actor: Actor, now: float, live: Live, *events: RolloutEvent) -> None:
        heard = Pending()
        for event in events:
            heard.take(live, event, now)
        self._settle(session, now, heard, actor)

    def _settle(self, session: Session, now: float, heard: Pending, actor: Actor | None = None) -> None:
        """Carry out what events led to, and save."""
        for live, before, effects, left in heard.pending.values():
            who = actor or Actor(live.tenant, SYSTEM)
            with session.no_autoflush:  # what is asked for here is flushed where it must be
                if effects:
                    self._executor.carry_out(session, who, now, live, before, effects)
                if effects or live.state.changed or left:
                    rollout_rows.save(session, live, now)
                    self._executor.announce(session, live)
            if not live.state.members or live.state.status in OVER:
                rollout_rows.deactivate(session, live)
                self._states.pop(live.key, None)
            elif live.state.status in WATCHED and (harm := live.comparison.harm()) is not None:
                self._apply(session, Actor(live.tenant, SYSTEM), now, live, Harmed(harm))

    def _read_progress(self, session: Session, now: float) -> None:
        cursor = session.get(Cursor, INBOX) or Cursor(name=INBOX)
        while True:
            rows = rollout_rows.told(session, cursor.position, INBOX_PAGE)
            self._progress(session, now, rows)
            if rows:
                cursor.position = rows[-1].id
                session.add(cursor)
            if len(rows) < INBOX_PAGE:
                return

    def _progress(self, session: Session, now: float, told: Sequence[Told]) -> None:
        """Take in one page of progress: each rollout's rows are read once and written once."""
        heard = Pending()
        by_rollout: dict[tuple[str, str], list[Told]] = {}
        for row in told:
            if not row.rollout:
                self._executor.refused(session, now, row)
            live = self._states.get((row.tenant, row.rollout))
            if live is not None and row.device in live.state.members and row.model == live.model:
                by_rollout.setdefault(live.key, []).append(row)
        for key, rows in by_rollout.items():
            live = self._states[key]
            for row in rows:
                self._executor.note(live, row)
                event = Reported(row.device, row.bundle, row.sequence, Phase(row.phase), Reason(row.reason))
                heard.take(live, event, now)
        self._settle(session, now, heard)

    def _take_over(
        self, session: Session, actor: Actor, now: float, request: RolloutRequest, devices: list[str]
    ) -> None:
        same = [live for live in self._ordered() if live.tenant == actor.tenant and live.model == request.model]
        checks.check_free([live.state for live in same], devices, request)
        self._remove(session, now, actor.tenant, request.model, devices)

    def _remove(self, session: Session, now: float, tenant: str, model: str, devices: list[str]) -> None:
        """Take devices out of whatever rollout of a model they are in."""
        for live in self._ordered():
            inside = [device for device in devices if device in live.state.members]
            if live.tenant != tenant or live.model != model or not inside:
                continue
            # Those that wait go first: a place that becomes free must not be offered to a device that is leaving too.
            inside.sort(key=lambda device: live.state.members[device].place is not Place.WAITING)
            rollout_rows.deactivate(session, live, inside)
            self._apply(session, Actor(tenant, SYSTEM), now, live, *map(Left, inside))
