"""What the rollout machine asks for, done: assignments issued, alerts raised, every move audited once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlmodel import Session, select

from skerry_contracts import codec
from skerry_contracts.device import Heartbeat, ModelHealth, ModelState, Phase, Reason
from skerry_fleet import alerts, audit, director, rollout_machine, rollout_pairs
from skerry_fleet import shadow_orders as shadows
from skerry_fleet.alerts import Kind
from skerry_fleet.audit import Actor
from skerry_fleet.database import announce
from skerry_fleet.director import Sign, Wish
from skerry_fleet.ingest import Incoming
from skerry_fleet.regression import Tally, judge
from skerry_fleet.rollout_rows import Live, Told
from skerry_fleet.rollout_words import (
    Confirmed,
    Effect,
    Failed,
    Harmed,
    Heard,
    Issued,
    Moved,
    Offer,
    Place,
    Regressed,
    Revert,
    Status,
)
from skerry_fleet.tables import Device, Rollout

FIRST_PATIENCE_S, LAST_PATIENCE_S = 600.0, 86400.0
_FINAL = (Phase.COMMITTED, Phase.ROLLED_BACK, Phase.FAILED)


class Executor:
    """Carries out effects within the transaction of the event that caused them."""

    def __init__(self, sign: Sign, assignment_days: float) -> None:
        self._sign = sign
        self._days = assignment_days
        self._sequences: dict[tuple[str, str], int] = {}  # lower bounds: sequences only rise
        self._patience: dict[tuple[str, str], tuple[float, float]] = {}  # not before, and how long after it

    def carry_out(
        self,
        session: Session,
        actor: Actor,
        now: float,
        live: Live,
        before: tuple[Status, int],
        effects: Sequence[Effect],
    ) -> None:
        """Do what events led to, in order. Moves are the actor's; orders to devices are the system's."""
        touched = [effect.device for effect in effects if isinstance(effect, (Offer, Revert, Confirmed))]
        wishes = director.wishes(session, live.tenant, live.model, touched)
        offered = [effect.device for effect in effects if isinstance(effect, Offer)]
        health = director.health(session, live.tenant, live.model, offered)
        if offered:
            shadows.release(
                session, live.tenant, now, live.model, offered, f"rollout {live.state.rollout} took its place"
            )
        orders: dict[str, str] = {}
        confirmed = []
        for effect in effects:
            if isinstance(effect, (Confirmed, Failed)):
                self._compare(session, now, live, effect.device)
            if isinstance(effect, (Offer, Revert)):
                self._order(live, effect, wishes[effect.device], health.get(effect.device))
                orders[effect.device] = f"{type(effect).__name__.lower()} {live.state.rollout}"
            elif isinstance(effect, Confirmed):
                wishes[effect.device].confirm(live.state.bundle)
                live.tallies.pop(effect.device, None)
                confirmed.append(effect.device)
            elif isinstance(effect, Failed):
                text = f"{effect.device} failed in rollout {live.state.rollout}: {effect.reason}"
                scope = live.state.rollout
                alerts.raise_alert(session, live.tenant, now, Kind.UPDATE_FAILED, effect.device, text, scope=scope)
            else:
                before = self._moved(session, actor, now, live, before, effect)
        self._pair(session, live, offered)
        director.keep(session, live.tenant, wishes.values())
        alerts.resolve_all(session, live.tenant, now, Kind.UPDATE_FAILED, confirmed)
        if orders:
            for device, sequence in self._issue(session, now, live.tenant, orders).items():
                # Feeding back the number moves nothing: it only tells old words from new ones.
                rollout_machine.step(live.state, Issued(device, sequence), now)

    def announce(self, session: Session, live: Live) -> None:
        """Tell event streams where the rollout stands, when the transaction commits."""
        state = live.state
        counts = {place.value: count for place, count in state.counts.items() if count}
        moved = {"rollout": state.rollout, "model": live.model, "bundle": state.bundle, "status": state.status.value}
        announce(session, live.tenant, "rollout", **moved, stage=state.stage, counts=counts)

    def heard(
        self, session: Session, now: float, live: Live, device: str, heartbeat: Heartbeat
    ) -> Heard | Regressed | Harmed:
        """Return what a heartbeat means to a rollout."""
        found = next((each for each in heartbeat.models if each.model == live.model), None)
        member = live.state.members[device]
        if found is None:
            return Heard(device, None, heartbeat.sequence, False)
        live.comparison.hear(device, found, live.state.bundle)
        watched = (Place.OFFERED, Place.SOAKING, Place.CONFIRMED)
        over = member.place is Place.CONFIRMED and live.state.status is Status.COMPLETE
        if found.bundle == live.state.bundle and member.place in watched and not over:
            tally = live.tallies.setdefault(device, Tally())
            worse = judge(live.limits, live.baseline(device), tally, found)
            if worse is not None and heartbeat.sequence >= member.floor:
                return Regressed(device, worse)
        if member.place is Place.SOAKING and now >= member.since + live.state.plan.soak_s:
            self._compare(session, now, live, device)  # before it may count as confirmed and let the next ones in
            if (harm := live.comparison.harm()) is not None:
                return Harmed(harm)
        return Heard(device, found.bundle, heartbeat.sequence, found.state is ModelState.SERVING)

    @staticmethod
    def _compare(session: Session, now: float, live: Live, device: str) -> None:
        """Count the pair of a device that has been watched long enough, or failed."""
        ended = live.comparison.end(device)
        if ended is not None:
            rollout_pairs.note(session, live.tenant, live.state.rollout, now, *ended)

    def _pair(self, session: Session, live: Live, offered: list[str]) -> None:
        """Watch each device that was just offered the bundle beside one that waits."""
        for device in offered:
            live.comparison.lose(device)
        if not live.comparison.gate.alpha:
            return
        first = [
            device
            for device in offered
            if live.state.members[device].attempts == 0 and live.baseline(device) is not None
        ]
        controls = live.comparison.candidates(live.state, len(first))
        before = director.health(session, live.tenant, live.model, controls)
        for device, control in zip(first, [each for each in controls if each in before], strict=False):
            baseline = live.baseline(device)
            if baseline is not None:
                live.comparison.pair(device, baseline, control, before[control])

    def catch_up(self, session: Session, now: float, beats: Iterable[Incoming]) -> None:
        """Number above what devices have adopted: they may remember more than a fleet that was restored from a copy."""
        unsure: dict[str, dict[str, int]] = {}
        for beat in beats:
            if beat.record.sequence > self._sequences.get((beat.tenant, beat.device), 0):
                unsure.setdefault(beat.tenant, {})[beat.device] = beat.record.sequence
        for tenant, adopted in unsure.items():
            for device, sequence in director.sequences(session, tenant, adopted).items():
                self._sequences[tenant, device] = sequence
                if adopted[device] > sequence:
                    self._issue(session, now, tenant, {device: "the device is ahead"}, above=adopted[device])

    def refused(self, session: Session, now: float, row: Told) -> None:
        """Take in that a device could not use an assignment at all, so that it names no rollout."""
        known = session.get(Device, (row.tenant, row.device))
        unreadable = row.sequence == 0 and row.reason == Reason.UNSIGNED  # so the device cannot say which it was
        if known is None or (row.sequence < known.sequence and not unreadable):
            return
        text = f"{row.device} refused its assignment: {row.reason} {row.detail}"
        alerts.raise_alert(session, row.tenant, now, Kind.UPDATE_FAILED, row.device, text)
        if row.reason == Reason.EXPIRED and self._may_try_again((row.tenant, row.device), now):
            self._issue(session, now, row.tenant, {row.device: "the device found it expired"})

    def _may_try_again(self, device: tuple[str, str], now: float) -> bool:
        """Return whether to sign anew for a device that finds its assignments expired: where its clock is wrong that
        helps nobody, so each time twice as late.
        """
        due_s, wait_s = self._patience.get(device, (0.0, FIRST_PATIENCE_S))
        if now < due_s:
            return False
        self._patience[device] = (now + wait_s, min(2 * wait_s, LAST_PATIENCE_S))
        return True

    def note(self, live: Live, told: Told) -> None:
        """Keep a device's last word beside its place, for people."""
        kept = live.kept_of(told.device)
        kept.phase, kept.detail = told.phase, told.detail[:500]
        if told.phase in _FINAL and told.reason != Reason.OK:
            kept.reason = told.reason
        live.state.changed.add(told.device)

    def _order(self, live: Live, effect: Offer | Revert, wish: Wish, health: ModelHealth | None) -> None:
        """Change what a device is to run, forward or back."""
        kept = live.kept_of(effect.device)
        live.state.changed.add(effect.device)
        if isinstance(effect, Revert):
            live.tallies.pop(effect.device, None)
            wish.want(kept.previous, live.state.rollout, back=True)
            return
        if live.state.members[effect.device].attempts == 0:
            live.baselines[effect.device] = baseline = health
            kept.previous = wish.confirmed
            kept.baseline = "" if baseline is None else codec.encode(baseline).decode()
        wish.want(live.state.bundle, live.state.rollout)

    def _issue(
        self, session: Session, now: float, tenant: str, devices: dict[str, str], above: int = 0
    ) -> dict[str, int]:
        actor = Actor(tenant, "system:director")
        return director.issue(session, self._sign, actor, now, self._days, devices, above=above)

    def _moved(
        self, session: Session, actor: Actor, now: float, live: Live, before: tuple[Status, int], effect: Moved
    ) -> tuple[Status, int]:
        rollout = live.state.rollout
        was = {"status": before[0].value, "stage": before[1]}
        after = {"status": effect.status.value, "stage": effect.stage, "reason": effect.reason}
        audit.write(session, actor, now, f"rollout.{effect.status}", f"rollout/{rollout}", was, after)
        if effect.status is Status.ROLLING_BACK:
            text = f"rollout {rollout} of {live.model} is rolled back: {effect.reason}"
            severity = "" if actor.name.startswith("system:") else "info"  # who ordered it knows
            alerts.raise_alert(session, live.tenant, now, Kind.ROLLED_BACK, rollout, text, severity, scope=rollout)
        if effect.status is Status.COMPLETE:
            _mended(session, now, live)
        return effect.status, effect.stage


def _mended(session: Session, now: float, live: Live) -> None:
    """Close the alerts of earlier rollouts of a model that were rolled back, where this one covers their group."""
    query = select(Rollout.id).where(Rollout.tenant == live.tenant, Rollout.model == live.model)
    if live.group:
        query = query.where(Rollout.group == live.group)
    alerts.resolve_all(session, live.tenant, now, Kind.ROLLED_BACK, session.exec(query).all())
