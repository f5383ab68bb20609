"""What the fleet must read again lies sealed in its database, and in no backup that leaves the keys out."""

from __future__ import annotations

import contextlib
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.sinks import HttpSink, http_sink

from skerry_fleet import alerts, backup, delivery, incidents, notice_routes, restore, vault
from skerry_fleet.alerts import Kind
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import UnavailableError
from skerry_fleet.fleet import Fleet, open_fleet
from skerry_fleet.incident_tables import Route
from skerry_fleet.paging import Page
from skerry_fleet.vault import Vault

DATABASES = "both"
HUSH = "hush-hush-0815"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink() as found:
        yield found


def base(sink: HttpSink) -> str:
    return "/".join(sink.url.split("/")[:3])


def route(bench: Bench, target: str) -> str:
    """Make a route; return the secret that signs."""
    with bench.fleet.database.write() as session:
        made = notice_routes.create(session, ACTOR, 0.0, random.Random(1).randbytes, name="hook", target=target)
    return str(made["signing_secret"])


def column(fleet: Fleet, statement: str) -> str:
    with fleet.database.write() as session:
        result = session.connection().execute(sqlalchemy.text(statement))
        return "" if not result.returns_rows else str(result.scalar_one())


def tell(fleet: Fleet, now: float) -> list[str]:
    """Raise an alert, send what is due, and return the problems."""
    with fleet.database.write() as session:
        alerts.raise_alert(session, "default", now, Kind.DISK_LOW, f"d{now}", "low")
        incidents.tick(session, now + 10, 10.0, 900.0)
        jobs = delivery.due(session, now + 10)
    assert jobs and HUSH not in repr(jobs)
    return [delivery.send(fleet.database, lambda: now + 10, job, "machine") for job in jobs]


def test_neither_database_nor_a_backup_without_keys_holds_a_target(
    bench: Bench, tmp_path: Path, sink: HttpSink
) -> None:
    secret = route(bench, f"{base(sink)}/{HUSH}")
    stored = column(bench.fleet, "SELECT target || secret FROM route")
    assert HUSH not in stored and secret not in stored and stored.startswith("sealed1.")
    with bench.fleet.database.read() as session:
        (shown,) = notice_routes.list_routes(session, "default", Page())["items"]
    assert shown["target"] == f"{base(sink)}/…"
    key = bench.fleet.config.root / vault.FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for keys in (False, True):
        file = tmp_path / f"{keys}.skb"
        dialect = bench.fleet.database.dialect
        backup.write(bench.fleet.config, dialect, file, 0.0, b"", keys=keys)
        held = file.read_bytes()
        assert HUSH.encode() not in held and secret.encode() not in held
        assert (key.read_bytes().strip() in held) is keys
    assert tell(bench.fleet, 1000.0) == [""]
    assert len(sink.requests) == 1


def test_a_fleet_restored_with_its_keys_tells_and_one_without_says_what_to_do(
    bench: Bench, tmp_path: Path, sink: HttpSink, caplog: pytest.LogCaptureFixture
) -> None:
    route(bench, f"{base(sink)}/{HUSH}")
    for keys in (True, False):
        file, root = tmp_path / f"{keys}.skb", tmp_path / f"again-{keys}"
        backup.write(bench.fleet.config, bench.fleet.database.dialect, file, 0.0, b"", keys=keys)
        restore.restore(FleetConfig(root=root, broker="embedded"), file, 0.0, b"")
        if not keys:  # the others were kept elsewhere, and put back; this one was not
            source = bench.fleet.config.root / "trust" / "keys"
            for each in source.rglob("*.pem"):
                to = root / "trust" / "keys" / each.relative_to(source)
                to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                to.write_bytes(each.read_bytes())
                to.chmod(0o600)
        again = open_fleet(FleetConfig(root=root, broker="embedded"), bench.clock, random.Random(2).randbytes)
        with contextlib.closing(again):
            (problem,) = tell(again, 5000.0)
            assert (problem == "") is keys
            assert keys or ("another key" in problem and vault.FILE in problem and HUSH not in problem)
            assert keys or "route hook was sealed with another key" in caplog.text
            with again.database.write() as session:
                notice_routes.remove(session, ACTOR, 0.0, "hook")  # always possible
    assert len(sink.requests) == 1


def test_what_a_version_before_kept_plain_is_sealed_when_the_fleet_opens(bench: Bench, sink: HttpSink) -> None:
    route(bench, f"{base(sink)}/other")
    target = f"{base(sink)}/{HUSH}"
    column(bench.fleet, f"UPDATE route SET target = '{target}', secret = 'whsec_AAAA', shown = NULL")
    config = bench.fleet.config
    bench.fleet.close()
    bench.fleet = open_fleet(config, bench.clock, random.Random(2).randbytes)
    assert HUSH not in column(bench.fleet, "SELECT target FROM route")
    with bench.fleet.database.read() as session:
        row = notice_routes.get(session, "default", "hook")
        assert vault.opened_route(session, row) == (target, "whsec_AAAA")
        assert notice_routes.view(row)["target"] == f"{base(sink)}/…"


def test_what_was_moved_to_another_row_or_altered_is_not_opened(bench: Bench) -> None:
    route(bench, f"http://127.0.0.1:9/{HUSH}")
    with bench.fleet.database.write() as session:
        row = notice_routes.get(session, "default", "hook")
        other = Route(**{**row.model_dump(), "name": "other"})
        with pytest.raises(UnavailableError, match="route other cannot be opened") as refused:
            vault.opened_route(session, other)
        assert HUSH not in str(refused.value)
        row.secret = row.target
        with pytest.raises(UnavailableError):
            vault.opened_route(session, row)


@given(st.text(max_size=200), st.integers(0), st.integers(1, 255))
def test_only_the_same_key_opens_only_what_was_sealed(text: str, place: int, flip: int) -> None:
    ours = Vault(b"k" * 32)
    sealed = ours.seal(text, "route", "t", "n", "target")
    assert ours.open(sealed, "route", "t", "n", "target") == text
    at = place % len(sealed)
    altered = sealed[:at] + chr((ord(sealed[at]) + flip) % 256) + sealed[at + 1 :]
    with pytest.raises(UnavailableError):
        ours.open(altered, "route", "t", "n", "target")
    with pytest.raises(UnavailableError, match="another key"):
        Vault(b"l" * 32).open(sealed, "route", "t", "n", "target")


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    for text in ("", "00", "x" * 64, "é"):
        (tmp_path / vault.FILE).write_text(text)
        with pytest.raises(UnavailableError, match="holds no key"):
            vault.open_vault(tmp_path)
