"""Outages: many devices lost at once are one incident in the transaction that hears of it, told once, and over by
itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, delete, select
from tests.fleet.conftest import ACTOR, HARDWARE, Bench, Clock
from tests.fleet.test_incidents import add_route, told

from skerry_contracts import codec, topics
from skerry_contracts.device import Presence
from skerry_fleet import groups, notice_routes, outages, placement, presence, swarm
from skerry_fleet.alert_words import AlertState, Kind
from skerry_fleet.database import Database
from skerry_fleet.fleet import open_fleet
from skerry_fleet.incident_tables import Incident
from skerry_fleet.ingest import IngestCore
from skerry_fleet.ingest_store import SqlIngestStore
from skerry_fleet.outages import OutageLimits, Outages
from skerry_fleet.presence import Seen
from skerry_fleet.records import Alert
from skerry_fleet.tables import Device, DeviceState

BOOT = "00000001-00000001"


def name(number: int) -> str:
    return swarm.device_name(number)


@pytest.fixture(scope="module")
def crowd_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Clock]]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('fleet') / 'fleet.db'}")
    yield database, Clock()
    database.close()


def say(bench: Bench, numbers: Iterable[int], online: bool, session: int = 1, leaving: bool | None = None) -> None:
    said = Presence(BOOT, session, online, leaving)
    bench.send_all([(name(number), "presence", said) for number in numbers])


def seen(bench: Bench) -> list[tuple[str, str, int, int]]:
    with bench.fleet.database.read() as session:
        rows = session.exec(select(Incident).order_by(Incident.id)).all()  # type: ignore[arg-type]  # SQLModel's columns
        return [(each.kind, each.scope, each.devices, each.standing) for each in rows]


def stand(session: Session, kind: Kind) -> list[str]:
    query = select(Alert).where(Alert.kind == kind.value, Alert.state != AlertState.RESOLVED.value)
    return sorted(each.subject for each in session.exec(query))


def restart(bench: Bench) -> None:
    bench.fleet.close()
    config = dataclasses.replace(bench.fleet.config, shards=2)
    bench.fleet = open_fleet(config, bench.clock, random.Random(2).randbytes)


@pytest.fixture
def crowd(bench: Bench) -> Bench:
    """300 devices on two shards, all online."""
    swarm.admit(bench.fleet.database, "default", 300, HARDWARE, bench.clock(), 2)
    say(bench, range(300), True)
    return bench


def of_shard(shard: int, count: int = 300) -> list[int]:
    return [number for number in range(count) if placement.choose("default", name(number), 2) == shard]


def pass_s(bench: Bench, seconds: float, step_s: float = 5.0) -> None:
    for _ in range(int(seconds / step_s)):
        bench.clock.now += step_s
        bench.fleet.tick()


def test_a_lost_shard_is_one_incident_at_once_told_once_and_over_by_itself(crowd: Bench) -> None:
    first, second = of_shard(0)[:100], of_shard(0)[100:]
    with crowd.fleet.database.write() as session:
        add_route(session, "all")
    say(crowd, first, False)
    assert seen(crowd) == [("mass-offline", "shard/0", 100, 1)], "in the transaction of the wills themselves"
    say(crowd, second, False)
    crowd.fleet.tick()
    assert seen(crowd) == [("mass-offline", "shard/0", len(first + second), 1)]
    with crowd.fleet.database.read() as session:
        assert told(session) == []
    pass_s(crowd, 600)
    (kind, scope, devices, standing), *more = seen(crowd)
    assert (kind, scope, devices) == ("mass-offline", "shard/0", len(first + second))
    assert more == [("device-silent", "shard/1", 0, 300 - devices)]
    assert standing == 1 + devices, "silence joins it"
    with crowd.fleet.database.read() as session:
        assert [each for each in told(session) if each[0] == 1] == [(1, "opened", "all")]
    say(crowd, range(300), True, session=2)
    crowd.fleet.tick()
    with crowd.fleet.database.read() as session:
        assert stand(session, Kind.MASS_OFFLINE) == []
    pass_s(crowd, 100)
    with crowd.fleet.database.read() as session:
        assert [each for each in told(session) if each[0] == 1] == [(1, "opened", "all"), (1, "resolved", "all")]
        (alert,) = session.exec(select(Alert).where(Alert.kind == Kind.MASS_OFFLINE.value)).all()
        assert alert.count == devices and alert.text.startswith(f"{devices} devices of broker shard 0")


def test_who_leaves_on_purpose_is_not_lost(crowd: Bench) -> None:
    say(crowd, range(300), False, leaving=True)
    crowd.fleet.tick()
    assert seen(crowd) == []


@pytest.mark.parametrize(("lost", "wave_s", "begins"), [(19, 0, False), (20, 0, True), (60, 8, False), (60, 2, True)])
def test_few_or_one_after_the_other_are_no_outage(crowd: Bench, lost: int, wave_s: int, begins: bool) -> None:
    numbers = of_shard(1)[:lost]
    for at in range(0, lost, 4):
        say(crowd, numbers[at : at + 4], False)
        crowd.clock.now += wave_s
        crowd.fleet.tick()
    assert bool(seen(crowd)) is begins


def test_a_small_share_of_a_shard_is_no_outage(crowd: Bench) -> None:
    crowd.fleet.outages = Outages(OutageLimits(devices=20, share=0.5))
    numbers = of_shard(0)
    for part, there in ((numbers[:30], False), (numbers[30 : len(numbers) // 2 + 1], True)):
        with crowd.fleet.database.write() as session:
            for number in part:
                row = session.get(DeviceState, ("default", name(number)))
                assert row is not None
                row.online, row.lost_ms = False, int(crowd.clock() * 1000)
                session.add(row)
        crowd.fleet.tick()
        assert bool(seen(crowd)) is there


def test_shards_that_fall_together_are_one_incident(crowd: Bench) -> None:
    with crowd.fleet.database.write() as session:
        add_route(session, "all")
    say(crowd, of_shard(1), False)
    crowd.clock.now += 20
    say(crowd, of_shard(0), False)
    pass_s(crowd, 400)
    with crowd.fleet.database.read() as session:
        assert seen(crowd) == [("mass-offline", "shard/0 shard/1", 300, 302)]
        assert told(session) == [(1, "opened", "all")]


def test_a_restart_in_the_middle_neither_forgets_nor_tells_again(crowd: Bench) -> None:
    with crowd.fleet.database.write() as session:
        add_route(session, "all")
    say(crowd, of_shard(0)[:60], False)
    pass_s(crowd, 15)
    restart(crowd)
    say(crowd, of_shard(0)[60:], False)
    pass_s(crowd, 60)
    say(crowd, of_shard(0)[:40], True, session=2)
    crowd.fleet.tick()
    with crowd.fleet.database.read() as session:
        assert seen(crowd) == [("mass-offline", "shard/0", len(of_shard(0)), 1)]
        assert told(session) == [(1, "opened", "all")]


def test_whoever_never_comes_back_does_not_hide_the_next_outage(crowd: Bench) -> None:
    gone, others = of_shard(0)[:60], of_shard(0)[60:]
    say(crowd, gone, False)
    for _ in range(90):
        crowd.clock.now += 60
        crowd.fleet.tick()
    with crowd.fleet.database.read() as session:
        assert stand(session, Kind.MASS_OFFLINE) == []
    say(crowd, others, True, session=3)
    say(crowd, others, False, session=3)
    outages = [each for each in seen(crowd) if each[0] == "mass-offline"]
    assert outages[1:] == [("mass-offline", "shard/0", len(others), 1)]


def test_a_broker_out_of_reach_is_an_incident_that_silence_joins(crowd: Bench) -> None:
    there = [True, True]
    crowd.fleet.reached = lambda: there
    crowd.fleet.tick()
    there[1] = False
    pass_s(crowd, 4, 1)
    assert seen(crowd) == []
    pass_s(crowd, 2, 1)
    assert seen(crowd) == [("broker-lost", "shard/1", 0, 1)]
    pass_s(crowd, 300)
    assert seen(crowd)[0] == ("broker-lost", "shard/1", 0, 1 + len(of_shard(1)))
    restart(crowd)
    crowd.fleet.reached = lambda: there
    pass_s(crowd, 20)
    there[1] = True
    crowd.fleet.tick()
    with crowd.fleet.database.read() as session:
        assert stand(session, Kind.BROKER_LOST) == []
        assert len(session.exec(select(Alert).where(Alert.kind == Kind.BROKER_LOST.value)).all()) == 1


@pytest.mark.parametrize(("muted", "heard"), [(60, False), (59, True)])
def test_a_mute_of_a_group_covers_an_outage_of_that_group_alone(crowd: Bench, muted: int, heard: bool) -> None:
    lost = of_shard(0)[:60]
    with crowd.fleet.database.write() as session:
        add_route(session, "all")
        for group in ("moving", "other"):
            groups.create(session, ACTOR, 0.0, group)
        groups.add(session, ACTOR, 0.0, "moving", map(name, lost[:muted]))
        groups.add(session, ACTOR, 0.0, "other", map(name, of_shard(1)))
        add_route(session, "others", group="other")
        notice_routes.mute(session, ACTOR, crowd.clock(), kind="", group="moving", hours=2, reason="")
    say(crowd, lost, False)
    pass_s(crowd, 60)
    with crowd.fleet.database.read() as session:
        assert told(session) == ([(1, "opened", "all")] if heard else [])


SEEN = Seen(BOOT, 3, True, False, 1000, 0)


@pytest.mark.parametrize(
    ("before", "said", "lost_ms"),
    [
        (SEEN, Presence(BOOT, 3, False), 5000),
        (SEEN, Presence(BOOT, 3, False, True), 0),
        (SEEN, Presence(BOOT, 2, False), 0),  # the late will of an old session
        (dataclasses.replace(SEEN, online=False, lost_ms=2000), Presence(BOOT, 3, False), 2000),  # the same again
        (dataclasses.replace(SEEN, online=False, lost_ms=2000), Presence(BOOT, 4, True), 0),
        (dataclasses.replace(SEEN, online=False), Presence(BOOT, 3, False), 0),  # it left before
    ],
)
def test_when_a_device_counts_as_lost(before: Seen, said: Presence, lost_ms: int) -> None:
    assert presence.said(before, said, 5000).lost_ms == lost_ms


STEPS = st.lists(st.tuples(st.sampled_from("lbtr"), st.integers(0, 39), st.integers(1, 40)), min_size=1, max_size=12)
NEXT = itertools.count()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(STEPS)
def test_an_outage_stands_and_counts_as_a_plain_model_says(
    crowd_of: tuple[Database, Clock], steps: list[tuple[str, int, int]]
) -> None:
    """l: connections are lost; b: devices come back; t: time passes; r: the fleet is started again."""
    (database, clock), tenant, limits = crowd_of, f"t{next(NEXT)}", OutageLimits(devices=10)
    with database.write() as session:
        session.add_all(Device(tenant=tenant, name=name(number)) for number in range(40))
        session.add_all(
            DeviceState(tenant=tenant, name=name(number), boot_id=BOOT, online=True) for number in range(40)
        )
    watch, sessions, away = Outages(limits), dict.fromkeys(range(40), 1), dict[int, float]()
    began, most = None, 0
    for verb, first, count in steps:
        numbers = [number for number in range(first, min(40, first + count)) if (number in away) is (verb == "b")]
        core = IngestCore(SqlIngestStore(database, 10, tenant, watch), lambda *_: pytest.fail("no receipts here"))
        for number in numbers if verb in "lb" else ():
            sessions[number] += verb == "b"
            said = Presence(BOOT, sessions[number], verb == "b")
            core.accept(topics.topic(tenant, name(number), "presence"), codec.encode(said), clock())
            away.pop(number, None)
            if verb == "l":
                away[number] = clock()
        core.commit()
        clock.now += count if verb == "t" else 0
        watch = Outages(limits) if verb == "r" else watch
        with database.write() as session:
            watch.look(session, clock())
        if began is not None:
            since = sum(at > began - outages.WINDOW_S for at in away.values())
            most, began = max(most, since), None if 2 * since < 10 else began
        if began is None and (recent := sum(at > clock() - outages.WINDOW_S for at in away.values())) >= 10:
            began, most = clock(), recent
        with database.read() as session:
            mine = select(Alert).where(Alert.tenant == tenant, Alert.state != AlertState.RESOLVED.value)
            standing = session.exec(mine).all()
            assert len(standing) == (began is not None)
            assert all(each.count == most for each in standing)
    with database.write() as session:
        session.exec(delete(DeviceState).where(DeviceState.tenant == tenant))  # type: ignore[arg-type]  # SQLModel's columns
        watch.look(session, clock())
