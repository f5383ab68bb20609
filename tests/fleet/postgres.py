"""A real PostgreSQL for the tests: Debian's server, started by hand in a folder of its own, on a Unix socket alone."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
START_S = 60.0


def program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs."""
    return shutil.which(name, path=os.pathsep.join([*map(str, FOLDERS), os.environ.get("PATH", os.defpath)]))


class Server:
    """One server. `url(name)` makes a database; its language sorts otherwise than bytes do."""

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self._folder, self._durable = folder, durable
        # The server refuses to be root: the user `nobody` is on every Debian.
        self._user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if self._user:
            entry = pwd.getpwnam("nobody")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._count, self._shared = 0, ""
        options = ("-U", "skerry", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions", "--locale=C.UTF-8")
        self._run("initdb", "-D", str(folder / "data"), *options)
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        # A test server keeps nothing over a power cut; the product's own setting is looked at in a test of its own.
        settings = (
            *(() if self._durable else ("fsync=off", "full_page_writes=off")),
            "listen_addresses=",
            "shared_buffers=64MB",
            "autovacuum=off",
            "max_wal_size=512MB",
        )
        flags = [each for setting in settings for each in ("-c", setting)]
        command = [program("postgres") or "postgres", "-D", str(self._folder / "data"), "-k", str(self._folder), *flags]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._user)
        end = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < end, (self._folder / "log").read_text()
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT in order, SIGQUIT as a crash would."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait()

    def url(self, name: str = "") -> str:
        """Make a new empty database and return its address."""
        self._count += 1
        name = name or f"test{self._count}"
        english = "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US-u-ka-shifted' TEMPLATE template0"
        self.query("postgres", f"CREATE DATABASE {name} {english}")
        return self.address(name)

    def emptied(self) -> str:
        """Return the address of a database without rows: always the same one, which is quicker than a new one."""
        if not self._shared:
            self._shared = self.url("shared")
        tables = "SELECT string_agg(format('%I', tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
        ((names,),) = self.query("shared", f"{tables} AND tablename <> 'alembic_version'")
        if names:
            self.query("shared", f"TRUNCATE {names} RESTART IDENTITY")
        return self._shared

    def address(self, name: str) -> str:
        """Return a database's address."""
        return f"postgresql+psycopg://skerry@/{name}?host={self._folder}"

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as a stranger would."""
        import psycopg

        with psycopg.connect(host=str(self._folder), user="skerry", dbname=database, autocommit=True) as connection:
            found = connection.execute(statement)
            return list(found.fetchall()) if found.description else []

    def _answers(self) -> bool:
        import psycopg

        try:
            self.query("postgres", "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, name: str, *arguments: str) -> None:
        command = [program(name) or name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, check=False, **self._user)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running(durable: bool = False) -> Iterator[Server]:
    """Give a server in a temporary folder; it is gone afterwards. `durable`: it waits for the disk, as others do."""
    with tempfile.TemporaryDirectory(prefix="skerry-pg-", dir="/tmp") as folder:
        server = Server(Path(folder), durable)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; use together with `@pytest.mark.postgres`."""
    with running() as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that says `DATABASES = "both"` on PostgreSQL, too."""
    if getattr(metafunc.module, "DATABASES", "") == "both" and "database_url" in metafunc.fixturenames:
        both = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
        metafunc.parametrize("database_url", both, indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database; empty text: SQLite, in the fleet's folder."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return ""
    server: Server = request.getfixturevalue("postgres")
    return server.emptied()
