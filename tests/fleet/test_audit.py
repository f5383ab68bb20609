"""The audit chain: nothing can be altered, taken out or cut off unseen, and it moves with its change or not at all."""

from __future__ import annotations

import pytest
import sqlalchemy
from tests.fleet.conftest import ACTOR, Bench

from skerry_fleet import audit, groups
from skerry_fleet.tables import Group

DATABASES = "both"


def fill(bench: Bench, count: int = 5) -> None:
    with bench.fleet.database.write() as session:
        for number in range(count):
            groups.create(session, ACTOR, bench.clock(), f"g{number}")
            session.flush()


def tamper(bench: Bench, statement: str) -> None:
    with bench.fleet.database.write() as session:
        session.connection().execute(sqlalchemy.text(statement))


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 3", "was altered"),
        ("UPDATE audit SET after = '{}' WHERE seq = 3", "was altered"),
        ("UPDATE audit SET time_ms = 1 WHERE seq = 3", "was altered"),
        ("DELETE FROM audit WHERE seq = 3", "a record is missing"),
        ("DELETE FROM audit WHERE seq >= 4", "the end of the chain is missing"),
        ("UPDATE audit SET hash = 'x' WHERE seq = 3", "was altered"),
        ("UPDATE audit SET previous_hash = 'x' WHERE seq = 4", "does not follow the record before it"),
    ],
)
def test_tampering_is_seen(bench: Bench, statement: str, problem: str) -> None:
    fill(bench)
    with bench.fleet.database.read() as session:
        whole = audit.verify(session, "default", page=2)
    assert whole.broken_at is None and whole.records == 6
    tamper(bench, statement)
    with bench.fleet.database.read() as session:
        broken = audit.verify(session, "default", page=2)
    assert broken.problem == problem and broken.broken_at in (3, 4)


def test_many_records_at_once_are_links_of_the_same_chain(bench: Bench) -> None:
    fill(bench, 2)
    with bench.fleet.database.write() as session:
        changes: list[audit.Change] = [(f"device/d{number}", None, {"sequence": number}) for number in range(1000)]
        audit.write_all(session, ACTOR, bench.clock(), "assignment.issue", changes)
        audit.write_all(session, ACTOR, bench.clock(), "assignment.issue", [])
        groups.create(session, ACTOR, bench.clock(), "after")
    with bench.fleet.database.read() as session:
        whole = audit.verify(session, "default")
    assert whole.broken_at is None and whole.records == 1004


def test_a_record_goes_where_its_change_goes(bench: Bench) -> None:
    fill(bench, 1)
    with pytest.raises(RuntimeError), bench.fleet.database.write() as session:
        groups.create(session, ACTOR, bench.clock(), "lost")
        session.flush()
        raise RuntimeError("the power goes")
    with bench.fleet.database.read() as session:
        assert audit.verify(session, "default").records == 2
        assert session.get(Group, ("default", "lost")) is None


def test_each_tenant_has_its_own_chain(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        groups.create(session, audit.Actor("rival", "x"), 0.0, "a")
    with bench.fleet.database.read() as session:
        assert audit.verify(session, "rival").records == 1
        assert audit.verify(session, "nobody") == audit.Verification(0, audit.GENESIS, None)
