"""The steps of the database: from nothing, from before there were steps, never back, and the same on both databases."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel, select
from tests.fleet.conftest import Bench

from skerry_fleet.cli import main
from skerry_fleet.config import FleetConfig
from skerry_fleet.database import Database
from skerry_fleet.errors import ConflictError, FleetError, InputError
from skerry_fleet.fleet import lock_folder, open_fleet
from skerry_fleet.migrations import upgrade
from skerry_fleet.migrations.versions import v0001_tables
from skerry_fleet.sql.dialect import Dialect, open_dialect
from skerry_fleet.tables import Device

DATABASES = "both"


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Iterator[Dialect]:
    """A database without any table."""
    url = request.getfixturevalue("postgres").url() if database_url else f"sqlite:///{tmp_path / 'fleet.db'}"
    dialect = open_dialect(url)
    yield dialect
    dialect.close()


def differences(dialect: Dialect) -> list[object]:
    """Return how a database differs from the models; each line says what a new step would have to do."""
    with dialect.reader.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), SQLModel.metadata))


def columns(dialect: Dialect) -> dict[str, list[tuple[str, str, bool]]]:
    """Return each table's columns as the database itself names them, with collations."""
    found = {}
    with dialect.reader.connect() as connection:
        inspector = sqlalchemy.inspect(connection)
        for name in inspector.get_table_names():
            rows = [(each["name"], repr(each["type"]), each["nullable"]) for each in inspector.get_columns(name)]
            found[name] = sorted(rows)
    return found


def indexes(dialect: Dialect) -> dict[str, list[str]]:
    found = {}
    with dialect.reader.connect() as connection:
        inspector = sqlalchemy.inspect(connection)
        for name in inspector.get_table_names():
            told = []
            for each in (*inspector.get_indexes(name), *inspector.get_unique_constraints(name)):
                row: dict[str, Any] = dict(each)
                only = row.pop("dialect_options", {}).get("sqlite_where", "")
                told.append(f"{row} {only}")
            found[name] = sorted(told)
    return found


def test_the_steps_from_nothing_make_what_the_models_say(
    request: pytest.FixtureRequest, empty: Dialect, database_url: str, tmp_path: Path
) -> None:
    with empty.writer.begin() as connection:
        for step in upgrade.REVISIONS:
            upgrade.bring(connection, step)
        assert upgrade.revision(connection) == upgrade.HEAD
    postgres = request.getfixturevalue("postgres") if database_url else None
    at_once = open_dialect(postgres.url() if postgres else f"sqlite:///{tmp_path / 'other.db'}")
    upgrade.prepare(at_once)
    assert columns(empty) == columns(at_once) and indexes(empty) == indexes(at_once)
    assert differences(empty) == [], "a table has changed: it needs a new step in migrations/versions"
    at_once.close()


def test_the_list_of_steps_is_that_of_their_files() -> None:
    directory = ScriptDirectory(str(Path(upgrade.__file__).parent))
    assert tuple(each.revision for each in reversed(list(directory.walk_revisions()))) == upgrade.REVISIONS


def test_a_database_from_before_there_were_steps_is_taken_over_with_its_rows(bench: Bench, empty: Dialect) -> None:
    with empty.writer.begin() as connection:
        v0001_tables.M.create_all(connection)
        connection.exec_driver_sql("DROP TABLE device_shard")  # as an earlier one had it
        row = {"tenant": "default", "name": "old", "status": "active", "claim": "", "created_ms": 1 << 40}
        row |= {"certificate_pem": "", "next_certificate_pem": "", "renewed_ms": 0, "public_key_sha256": ""}
        row |= {"download_token_sha256": "", "hardware": "{}", "tags": "{}", "sequence": 7}
        connection.execute(v0001_tables.M.tables["device"].insert(), row)
    upgrade.prepare(empty)
    assert differences(empty) == []
    with empty.reader.connect() as connection:
        assert connection.execute(select(Device.name, Device.created_ms)).all() == [("old", 1 << 40)]


def test_a_database_that_lacks_a_column_is_refused_and_left_alone(empty: Dialect) -> None:
    with empty.writer.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE device (tenant TEXT, name TEXT)")
    before = columns(empty)
    with pytest.raises(ConflictError, match=r"lacks device\.status"):
        upgrade.prepare(empty)
    assert columns(empty) == before


def test_a_newer_database_is_not_served(config: FleetConfig, bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    bench.fleet.close()
    with pytest.raises(ConflictError, match=r"newer version of skerry \(step 9999"):
        open_fleet(config, bench.clock, bench.fleet.random)
    dialect = open_dialect(config.url)
    with dialect.writer.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{upgrade.HEAD}'")
    dialect.close()
    bench.fleet = open_fleet(config, bench.clock, bench.fleet.random)


def test_there_is_no_way_back(empty: Dialect) -> None:
    upgrade.prepare(empty)
    with pytest.raises(InputError, match="no step '0000'"), empty.writer.begin() as connection:
        upgrade.bring(connection, "0000")
    upgrade.behind(upgrade.HEAD, upgrade.HEAD)
    with pytest.raises(ConflictError, match="newer version"):
        upgrade.behind("9999", upgrade.HEAD)


def test_two_that_start_at_once_make_the_tables_once(empty: Dialect) -> None:
    errors: list[Exception] = []

    def start() -> None:
        dialect = open_dialect(str(empty.reader.url.render_as_string(hide_password=False)))
        try:
            upgrade.prepare(dialect)
        except (FleetError, DBAPIError) as error:
            errors.append(error)
        finally:
            dialect.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and differences(empty) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_steps_can_be_read_as_sql(tmp_path: Path, kind: str) -> None:
    text = upgrade.script(kind, None)
    assert "CREATE TABLE device" in text and f"'{upgrade.HEAD}'" in text
    assert ('COLLATE "C"' in text) is (kind == "postgresql")
    if kind == "sqlite":
        connection = sqlite3.connect(tmp_path / "by-hand.db")
        connection.executescript(text)
        connection.close()
        database = Database(f"sqlite:///{tmp_path / 'by-hand.db'}")
        assert differences(database.dialect) == []
        database.close()


def test_the_command_says_where_a_database_is_and_brings_it_forward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "fleet"
    root.mkdir()
    assert main(["migrate", "--root", str(root)]) == 1 and "no fleet in" in capsys.readouterr().err
    dialect = open_dialect(f"sqlite:///{root / 'fleet.db'}")
    with dialect.writer.begin() as connection:
        v0001_tables.M.create_all(connection)
    words = ["migrate", "--root", str(root)]
    assert main([*words, "--check"]) == 1 and "run skerry fleet migrate" in capsys.readouterr().out
    assert main([*words, "--to", "12"]) == 1 and "no step '12'" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"before": None, "now": upgrade.HEAD, "wanted": upgrade.HEAD}
    assert main([*words, "--check"]) == 0 and differences(dialect) == []
    assert main([*words, "--to", upgrade.FIRST]) == 1 and "only goes forward" in capsys.readouterr().err
    capsys.readouterr()
    assert main([*words, "--sql"]) == 0 and "CREATE TABLE" not in capsys.readouterr().out
    lock = lock_folder(root)
    assert main(words) == 1 and "another fleet manager" in capsys.readouterr().err
    os.close(lock)
    with dialect.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for flags in ([], ["--check"]):
        assert main([*words, *flags]) == 1 and "newer version" in capsys.readouterr().err
    dialect.close()
