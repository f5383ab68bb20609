"""Incidents: what comes together is one thing and one message; seen, muted, escalated, over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, func, select
from tests.fleet.conftest import ACTOR, Bench

from skerry_fleet import alerts, delivery, groups, incidents, notice_routes, presence
from skerry_fleet.alert_words import Kind
from skerry_fleet.database import Database
from skerry_fleet.errors import ConflictError, MissingError
from skerry_fleet.incident_tables import Incident, Notice
from skerry_fleet.paging import Page
from skerry_fleet.placement import DeviceShard
from skerry_fleet.records import Alert
from skerry_fleet.tables import DeviceState
from skerry_fleet.vault import Vault

TARGET = "http://127.0.0.1:1/x"


def add_route(session: Session, name: str, **options: Any) -> None:
    options = {"target": TARGET, **options}
    notice_routes.create(session, ACTOR, 0.0, lambda count: b"k" * count, name=name, **options)


def raised(session: Session, now: float, kind: Kind, subject: str, scope: str = "", severity: str = "") -> None:
    alerts.raise_alert(session, "default", now, kind, subject, f"{subject}!", severity, scope)


def told(session: Session) -> list[tuple[int, str, str]]:
    session.flush()
    rows = session.exec(select(Notice).order_by(Notice.id)).all()  # type: ignore[arg-type]  # SQLModel's columns
    return [(each.incident, each.state, each.route) for each in rows]


def stand(session: Session) -> list[tuple[str, str, int, int]]:
    rows = session.exec(select(Incident).order_by(Incident.id)).all()  # type: ignore[arg-type]  # SQLModel's columns
    return [(each.kind, each.state, each.alerts, each.standing) for each in rows]


def test_a_shard_that_falls_with_its_devices_is_one_incident_and_one_message(bench: Bench) -> None:
    fleet, names = bench.fleet, [f"d{number:04}" for number in range(400)]
    now_ms = int(bench.clock() * 1000)
    with fleet.database.write() as session:
        add_route(session, "all")
        add_route(session, "late", level=1)
        for number, name in enumerate(names):
            heard = now_ms - 1000 * (number % 30)  # as heartbeats come, not at once
            session.add(DeviceState(tenant="default", name=name, online=True, last_seen_ms=heard))
            session.add(DeviceShard(tenant="default", device=name, shard=2 if number else 0))
    for _ in range(130):
        bench.clock.now += 2
        fleet.tick()
    with fleet.database.read() as session:
        found = session.exec(select(Incident).order_by(Incident.alerts)).all()  # type: ignore[arg-type]  # SQLModel's
        assert [(each.scope, each.alerts, each.severity) for each in found] == [
            ("shard/0", 1, "warning"),
            ("shard/2", 399, "critical"),
        ]
        assert sorted(told(session)) == sorted((each.id, "opened", "all") for each in found)
    assert found[1].id is not None
    for _ in range(3):
        bench.clock.now += 900
        fleet.tick()
    with fleet.database.write() as session:
        assert told(session).count((found[1].id, "escalated-1", "late")) == 1
        for name in names:
            presence.returned(session, "default", name, bench.clock())
    fleet.tick()
    with fleet.database.read() as session:
        assert {each[1] for each in stand(session)} == {"open"}  # until it has settled
    bench.clock.now += 61
    fleet.tick()
    fleet.tick()
    with fleet.database.read() as session:
        assert {each[1:] for each in stand(session)} == {("resolved", 1, 0), ("resolved", 399, 0)}
        ends = sorted(each for each in told(session) if each[1] == "resolved")
        assert ends == sorted(
            [(found[0].id, "resolved", "all"), *((found[1].id, "resolved", r) for r in ("all", "late"))]
        )


def test_one_cause_is_one_incident_another_scope_or_a_later_time_another(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        raised(session, 0.0, Kind.UPDATE_FAILED, "a", "r1")
        raised(session, 1.0, Kind.UPDATE_FAILED, "b", "r1")
        raised(session, 2.0, Kind.ROLLED_BACK, "r1", "r1")
        raised(session, 3.0, Kind.UPDATE_FAILED, "c", "r2")
        raised(session, 4.0, Kind.UPDATE_FAILED, "c", "r2")  # a repetition only counts
        assert stand(session) == [("update-failed", "open", 3, 3), ("update-failed", "open", 1, 1)]
        assert [each.severity for each in session.exec(select(Incident)).all()] == ["critical", "warning"]
        raised(session, 904.0, Kind.UPDATE_FAILED, "d", "r2")
        assert len(stand(session)) == 3
    for minutes in range(10, 80, 10):  # what fails slowly is told anew now and then
        with bench.fleet.database.write() as session:
            raised(session, 60.0 * minutes, Kind.DISK_LOW, f"slow{minutes}")
    with bench.fleet.database.read() as session:
        assert [each[2] for each in stand(session) if each[0] == "disk-low"] == [7]
    with bench.fleet.database.write() as session:
        raised(session, 80 * 60.0, Kind.DISK_LOW, "slow80")
        assert [each[2] for each in stand(session) if each[0] == "disk-low"] == [7, 1]


def test_what_is_over_before_it_was_told_makes_no_message(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        add_route(session, "all")
        raised(session, 0.0, Kind.DISK_LOW, "a")
        incidents.tick(session, 9.0, 10.0, 900.0)
        alerts.resolve(session, "default", 9.5, Kind.DISK_LOW, "a")
        for now in (11.0, 60.0, 70.0, 80.0):
            incidents.tick(session, now, 10.0, 900.0)
        assert stand(session) == [("disk-low", "resolved", 1, 0)] and told(session) == []


def test_acknowledged_is_not_escalated_and_names_who(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        add_route(session, "first")
        add_route(session, "second", level=1, severity="critical")
        for scope in ("r1", "r2"):
            raised(session, 0.0, Kind.ROLLED_BACK, scope, scope)
            raised(session, 0.0, Kind.UPDATE_FAILED, f"device-{scope}", scope)
        incidents.tick(session, 10.0, 10.0, 900.0)
        one, two = (str(each.id) for each in session.exec(select(Incident)).all())
        assert incidents.acknowledge(session, ACTOR, 11.0, one, "ann")["acknowledged_by"] == "ann"
        incidents.acknowledge(session, ACTOR, 12.0, one, "bob")  # again: nothing
        states = select(Alert.state, func.count()).group_by(Alert.state)
        assert dict(session.exec(states).all()) == {"acknowledged": 2, "open": 2}
        for now in (909.0, 911.0, 912.0, 5000.0):
            incidents.tick(session, now, 10.0, 900.0)
        assert [each for each in told(session) if each[1] != "opened"] == [(int(two), "escalated-1", "second")]
        for alert in alerts.list_alerts(session, "default", Page(), "open")["items"]:
            alerts.acknowledge(
                session, ACTOR, 6000.0, alert["id"], "cem"
            )  # the last open alert takes its incident along
        assert incidents.get(session, "default", two).acknowledged_by == "cem"
        for wrong in ("0", "99", "x", "-1", "9" * 30, "١"):
            with pytest.raises(MissingError):
                incidents.acknowledge(session, ACTOR, 1.0, wrong, "me")


def test_a_resolved_incident_is_not_acknowledged(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        raised(session, 0.0, Kind.DISK_LOW, "a")
        alerts.resolve(session, "default", 1.0, Kind.DISK_LOW, "a")
        incidents.tick(session, 61.0, 10.0, 900.0)
        (row,) = session.exec(select(Incident)).all()
        with pytest.raises(ConflictError):
            incidents.acknowledge(session, ACTOR, 62.0, str(row.id), "me")


def test_mutes_keep_back_messages_by_kind_and_group_for_their_time(bench: Bench) -> None:
    bench.enrol("in", "out")
    with bench.fleet.database.write() as session:
        groups.create(session, ACTOR, 0.0, "lab")
        groups.add(session, ACTOR, 0.0, "lab", ["in"])
        add_route(session, "all")
        add_route(session, "lab", group="lab", kinds=["disk-low"])
        made = notice_routes.mute(session, ACTOR, 0.0, kind="", group="lab", hours=1.0, reason="moving")
        notice_routes.mute(session, ACTOR, 0.0, kind="certificate", group="", hours=2.0, reason="")
        raised(session, 0.0, Kind.DISK_LOW, "in")
        raised(session, 0.0, Kind.CERTIFICATE, "out")
        for now in (10.0, 3599.0):
            incidents.tick(session, now, 10.0, 900.0)
        assert told(session) == []
        incidents.tick(session, 3601.0, 10.0, 900.0)  # the mute of the group is over, and the disk is still low
        assert told(session) == [(1, "opened", "all"), (1, "opened", "lab")]
        assert notice_routes.list_mutes(session, "default", 3601.0, Page())["items"][0]["kind"] == "certificate"
        with pytest.raises(MissingError):
            notice_routes.unmute(session, ACTOR, 3602.0, str(made["id"]))
        notice_routes.unmute(session, ACTOR, 3602.0, "2")
        incidents.tick(session, 3603.0, 10.0, 900.0)
        assert told(session)[2:] == [(2, "opened", "all")]
        notice_routes.mute(session, ACTOR, 3700.0, kind="", group="lab", hours=1.0, reason="")
        raised(session, 3700.0, Kind.SPOOL_DROPPING, "in")
        raised(session, 3700.0, Kind.SPOOL_DROPPING, "out")  # one device outside is enough
        incidents.tick(session, 3711.0, 10.0, 900.0)
        assert told(session)[3:] == [(3, "opened", "all")]


EVENTS = st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([0.0, 5.0, 61.0, 901.0]))


@given(st.lists(EVENTS, max_size=25))
@settings(max_examples=12, derandomize=True, deadline=None)
def test_no_state_of_an_incident_is_told_twice_and_ends_are_told_to_who_heard(
    history: list[tuple[str, bool, float]],
) -> None:
    database, now = Database("sqlite://"), 0.0
    database.info["vault"] = Vault(b"k" * 32)
    try:
        with database.write() as session:
            add_route(session, "all")
            add_route(session, "critical", severity="critical")
        for subject, wrong, pause in [*history, ("a", False, 0.0), ("b", False, 0.0), ("c", False, 61.0)]:
            now += pause
            with database.write() as session:
                if wrong:
                    raised(session, now, Kind.DISK_LOW, subject)
                else:
                    alerts.resolve(session, "default", now, Kind.DISK_LOW, subject)
                incidents.tick(session, now, 10.0, 900.0)
                for each in session.exec(select(Incident)).all():
                    standing = select(func.count()).where(Alert.incident == each.id, Alert.state != "resolved")
                    assert each.standing == session.exec(standing).one()
        with database.write() as session:
            incidents.tick(session, now + 61, 10.0, 900.0)
            rows = told(session)
            assert len(rows) == len(set(rows))
            assert {each[0] for each in rows if each[1] == "opened"} == {
                each[0] for each in rows if each[1] == "resolved"
            }
            assert {each[1] for each in stand(session)} <= {"resolved"}
    finally:
        database.close()


def test_the_outbox_tries_later_and_later_and_gives_up_after_a_day(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        add_route(session, "all")
        raised(session, 0.0, Kind.DISK_LOW, "a")
        incidents.tick(session, 10.0, 10.0, 900.0)
        now, waits = 10.0, []
        while jobs := delivery.due(session, now):
            (job,) = jobs
            assert TARGET not in repr(job) and "whsec" not in repr(job)
            delivery.settle(session, now, job.notice, "no")
            session.flush()
            row = session.get(Notice, job.notice)
            assert row is not None
            assert not delivery.due(session, now)
            waits.append(row.due_ms / 1000 - now)
            now = max(now, row.due_ms / 1000)
        assert waits[:4] == [5.0, 10.0, 20.0, 40.0] and max(waits) == 3600.0
        assert row is not None and (row.status, row.tries) == ("given-up", len(waits)) and 86_400 <= now < 86_400 + 3610
