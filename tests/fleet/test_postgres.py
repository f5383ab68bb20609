"""PostgreSQL as the fleet's database: what it does otherwise than SQLite is not seen, and its own troubles are told."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select
from tests.fleet.conftest import Bench, Clock
from tests.fleet.postgres import Server, running

from skerry_contracts import codec, names, topics
from skerry_contracts.device import Ack, Phase, Progress, Reason
from skerry_fleet import device_list
from skerry_fleet.config import FleetConfig
from skerry_fleet.database import Database
from skerry_fleet.errors import ConflictError, InputError, UnavailableError
from skerry_fleet.fleet import open_fleet
from skerry_fleet.paging import Page
from skerry_fleet.records import Cursor, ProgressRow
from skerry_fleet.sql import bulk
from skerry_fleet.sql.changes import Change, Delete, Insert, Row, Update

pytestmark = pytest.mark.postgres
DEVICES = ("b", "ab", "a", "a-c", "a1")


@pytest.fixture
def stocked(tmp_path: Path, postgres: Server, clock: Clock) -> Iterator[Bench]:
    """A fleet on PostgreSQL with devices whose names English sorts otherwise than bytes."""
    config = FleetConfig(root=tmp_path / "fleet", broker="embedded", database_url=postgres.emptied())
    fleet = open_fleet(config, clock, random.Random(1).randbytes)
    found = Bench(fleet, clock)
    found.enrol(*DEVICES)
    yield found
    fleet.close()


def progress(seq: int, detail: str = "") -> bytes:
    boot = names.new_boot_id(1, b"\0\0\0\1")
    step = Progress(boot, seq, 0.0, 0, "r", "digits", "b" * 64, Phase.OFFERED, Reason.OK, detail)
    return codec.encode(step)


def send(bench: Bench, device: str, seqs: range, detail: str = "") -> list[int]:
    """Ingest steps in one batch; return the numbers that are acknowledged."""
    for seq in seqs:
        bench.fleet.core.accept(topics.topic("default", device, "progress"), progress(seq, detail), bench.clock())
    acks = [codec.decode(Ack, payload) for _, payload in bench.fleet.core.commit().acks]
    return [seq for ack in acks for each in ack.received for seq in each.seqs]


def test_names_sort_by_their_bytes_whatever_the_databases_language(stocked: Bench, postgres: Server) -> None:
    assert postgres.query("shared", "SELECT 'a-c' < 'ab'") == [(False,)]  # the language is not that of bytes
    seen, after = [], ""
    with stocked.fleet.database.read() as session:
        while after is not None:
            page = device_list.list_devices(session, "default", Page(after, 2))
            seen += [each["device"] for each in page["items"]]
            after = page["next"]
        assert seen == sorted(DEVICES)
        found = device_list.list_devices(session, "default", Page(), q="a")["items"]
    assert [each["device"] for each in found] == ["a", "a-c", "a1", "ab"]


@pytest.mark.parametrize("count", [3, 40])
def test_text_that_postgresql_cannot_hold_harms_no_other_message(stocked: Bench, count: int) -> None:
    acked = send(stocked, "a", range(1, count + 1), detail="cut\0short")
    assert acked == list(range(1, count + 1))
    with stocked.fleet.database.read() as session:
        rows = session.exec(select(ProgressRow)).all()
    assert {row.detail for row in rows} == {"cut\N{REPLACEMENT CHARACTER}short"} and len(rows) == count


def test_rows_are_numbered_in_their_order_and_come_once(stocked: Bench) -> None:
    send(stocked, "a", range(1, 60))
    send(stocked, "a", range(30, 101))
    send(stocked, "a", range(95, 104))
    with stocked.fleet.database.read() as session:
        rows = session.exec(select(ProgressRow).order_by(sqlalchemy.text("id"))).all()
    assert [row.seq for row in rows] == list(range(1, 104))


def change_many(database: Database) -> list[tuple[str, int]]:
    rows = [{"name": f"n{each}", "position": each} for each in range(40)]
    insert = Insert("feed_cursor", ("name", "position"), "ON CONFLICT (name) DO UPDATE SET position = -1")
    update = Update("feed_cursor", ("name",), ("position",), "feed_cursor.position < :position")
    delete = Delete("feed_cursor", ("name",), ("position",), "feed_cursor.position > :position")
    steps: list[tuple[Change, list[Row]]]
    steps = [(insert, rows), (insert, rows[:30]), (insert, []), (update, [{**row, "position": 7} for row in rows])]
    with database.write() as session:
        for change, changed in steps:
            bulk.many(session, change, changed)
    with pytest.raises(DBAPIError), database.write() as session:
        bulk.many(session, delete, [{**row, "position": 0} for row in rows])
        session.connection().exec_driver_sql("SELECT nothing")
    with database.write() as session:  # what staged the rows of the transaction that failed is made again
        bulk.many(session, delete, [{**row, "position": 35} for row in rows])
        bulk.many(session, update, [{**row, "position": 8} for row in rows])
        found = session.exec(select(Cursor).where(col(Cursor.name).startswith("n"))).all()
        return sorted((row.name, row.position) for row in found)


def test_many_rows_change_as_one_at_a_time_would(stocked: Bench) -> None:
    one_at_a_time = Database("sqlite://")
    assert change_many(stocked.fleet.database) == change_many(one_at_a_time)
    one_at_a_time.close()


def test_only_one_manager_writes(stocked: Bench, postgres: Server, tmp_path: Path) -> None:
    config = FleetConfig(root=tmp_path / "second", broker="embedded", database_url=postgres.address("shared"))
    with pytest.raises(ConflictError, match="another fleet manager"):
        open_fleet(config, stocked.clock, random.Random(2).randbytes)
    assert send(stocked, "a", range(1, 2)) == [1]


def test_what_is_acknowledged_outlives_a_crash_of_the_server(tmp_path: Path, clock: Clock) -> None:
    with running() as server:
        config = FleetConfig(root=tmp_path / "fleet", broker="embedded", database_url=server.url())
        fleet = open_fleet(config, clock, random.Random(1).randbytes)
        bench = Bench(fleet, clock)
        bench.enrol("a")
        acked: set[int] = set()
        for at in range(1, 400, 40):
            if at == 161:
                server.stop(signal.SIGQUIT)
            if at == 241:
                server.start()
            try:
                acked.update(send(bench, "a", range(at, at + 40)))
            except DBAPIError:
                assert at in (161, 201)
        with fleet.database.read() as session:
            kept = [row.seq for row in session.exec(select(ProgressRow)).all()]
        assert sorted(acked) == sorted(kept) and len(kept) == 320
        fleet.close()


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("postgresql://skerry@127.0.0.1:1/x", UnavailableError, "cannot open the database"),
        ("postgresql://skerry:secret@127.0.0.1:1/x?connect_timeout=1", UnavailableError, "cannot open"),
        ("mysql://x/y", InputError, "does not run on mysql"),
        ("not an address", InputError, "not the address of a database"),
        ("sqlite:////nowhere/at/all.db", UnavailableError, "unable to open"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_one_line(url: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        Database(url)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_database_in_another_encoding_is_refused(postgres: Server) -> None:
    postgres.query("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(ConflictError, match="encoded in LATIN1"):
        Database(postgres.address("latin"))


def test_commits_wait_for_the_disk_even_where_the_server_would_not(postgres: Server) -> None:
    url = postgres.url("hasty")
    postgres.query("postgres", "ALTER DATABASE hasty SET synchronous_commit = off")
    database = Database(url)
    with database.write() as session:
        assert session.connection().exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    database.close()
