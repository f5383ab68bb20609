"""Backup and restore: everything comes back on either database, and nothing does from a file that is not whole."""

from __future__ import annotations

import io
import json
import random
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import SQLModel, col, select
from tests.fleet.conftest import Bench
from tests.fleet.rolling import start

from skerry_fleet import backup, restore, sealing
from skerry_fleet.cli import main
from skerry_fleet.config import FleetConfig
from skerry_fleet.database import Database
from skerry_fleet.errors import ConflictError, FleetError, InputError
from skerry_fleet.fleet import open_fleet
from skerry_fleet.records import DeadLetter
from skerry_fleet.sql.dialect import open_dialect

DATABASES = "both"
WORDS = b"a long passphrase"


@pytest.fixture
def stocked(bench: Bench) -> Bench:
    """A fleet in the middle of a rollout, with refused messages of which some were thrown away."""
    bench.enrol("a", "b", "c")
    start(bench, bench.publish(), canary=1)
    for device in ("a", "b", "c"):
        bench.send(device, "sample", b"\0 no message \xff")
        bench.beat(device, "")
    with bench.fleet.database.write() as session:
        newest = session.exec(select(DeadLetter).order_by(col(DeadLetter.id).desc())).first()
        session.delete(newest)
    return bench


def save(bench: Bench, target: Path, passphrase: bytes = b"", *, keys: bool = True) -> backup.Written:
    config = bench.fleet.config
    return backup.write(config, bench.fleet.database.dialect, target, bench.clock(), passphrase, keys=keys)


def everything(database: Database) -> dict[str, Any]:
    """Return all rows, as plain values, and the numbers that come next."""
    found: dict[str, Any] = {}
    with database.dialect.reader.connect() as connection:
        for table in SQLModel.metadata.sorted_tables:
            found[table.name] = sorted(map(repr, map(tuple, connection.execute(sqlalchemy.select(table)))))
            if table.dialect_options["sqlite"]["autoincrement"]:
                found[f"{table.name} next"] = database.dialect.last_number(connection, table.name)
    return found


def open_again(bench: Bench, config: FleetConfig) -> None:
    bench.fleet.close()
    bench.fleet = open_fleet(config, bench.clock, random.Random(2).randbytes)


def test_everything_comes_back_from_a_file_written_while_the_fleet_serves(
    stocked: Bench, tmp_path: Path, database_url: str
) -> None:
    before, orders = everything(stocked.fleet.database), stocked.assignment("a")
    target = tmp_path / "fleet.backup"
    said = save(stocked, target)
    assert said.rows > 20 and not said.damaged and stat.S_IMODE(target.stat().st_mode) == 0o600
    stocked.publish("2", 2)  # goes on, and is not in the backup
    root = stocked.fleet.config.root
    config = FleetConfig(root=tmp_path / "again", broker="embedded")
    found = restore.restore(config, target, stocked.clock(), b"")
    assert (found.rows, found.files) == (said.rows, said.files) and found.audit > 5
    database = Database(config.url)
    assert everything(database) == before
    database.close()
    for name in ("trust/trust.json", "trust/keys/online/director.pem", "admin.key"):
        assert (config.root / name).read_bytes() == (root / name).read_bytes()
    assert stat.S_IMODE((config.root / "trust/keys/online/director.pem").stat().st_mode) == 0o600
    seen = json.loads((root / "trust/tuf/metadata/timestamp.json").read_bytes())["signed"]["version"]
    now = json.loads((config.root / "trust/tuf/metadata/timestamp.json").read_bytes())["signed"]["version"]
    assert now > seen, "devices refuse metadata older than what they have seen"
    open_again(stocked, config)
    assert stocked.assignment("a") == orders
    stocked.send("a", "sample", b"refused")
    with stocked.fleet.database.read() as session:
        newest = session.exec(select(DeadLetter.id).order_by(col(DeadLetter.id).desc())).first()
    assert newest == 4, "the number of a row that is gone was given again"
    stocked.publish("3", 3)


@pytest.mark.postgres
def test_a_fleet_moves_from_one_database_to_the_other_and_back(
    request: pytest.FixtureRequest, stocked: Bench, tmp_path: Path
) -> None:
    before, there, back = everything(stocked.fleet.database), tmp_path / "there", tmp_path / "back"
    save(stocked, tmp_path / "1", WORDS)
    url = request.getfixturevalue("postgres").url()
    moved = FleetConfig(root=there, broker="embedded", database_url=url)
    restore.restore(moved, tmp_path / "1", stocked.clock(), WORDS)
    dialect = open_dialect(url)
    backup.write(moved, dialect, tmp_path / "2", stocked.clock(), b"", keys=True)
    dialect.close()
    with pytest.raises(ConflictError, match="database is not empty"):
        restore.restore(FleetConfig(root=back, database_url=url), tmp_path / "2", 0.0, b"")
    restore.restore(FleetConfig(root=back), tmp_path / "2", stocked.clock(), b"")
    database = Database(f"sqlite:///{back / 'fleet.db'}")
    assert everything(database) == before
    database.close()


def test_keys_stay_out_where_that_is_asked_for(stocked: Bench, tmp_path: Path) -> None:
    save(stocked, tmp_path / "b", keys=False)
    with tarfile.open(tmp_path / "b") as tar:
        names = tar.getnames()
    assert (
        not any("keys" in name or name.endswith((".key", ".pem")) for name in names)
        and "files/broker.port" not in names
    )
    found = restore.restore(FleetConfig(root=tmp_path / "again"), tmp_path / "b", 0.0, b"")
    assert not found.keys


def test_a_damaged_blob_is_left_out_and_named(stocked: Bench, tmp_path: Path) -> None:
    blob = next(each for each in sorted((stocked.fleet.config.root / "blobs").rglob("*")) if each.is_file())
    blob.write_bytes(b"rot")
    assert save(stocked, tmp_path / "b").damaged == [blob.name]
    with pytest.raises(ConflictError, match="there already"):
        save(stocked, tmp_path / "b")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bytes, bytes]]:
    """The bytes of a plain and of a sealed backup of a small fleet."""
    folder = tmp_path_factory.mktemp("whole")
    fleet = open_fleet(FleetConfig(root=folder / "fleet", broker="embedded"), lambda: 1.8e9, random.Random(1).randbytes)
    found = []
    for name, words in (("plain", b""), ("sealed", WORDS)):
        backup.write(fleet.config, fleet.database.dialect, folder / name, 1.8e9, words, keys=True)
        found.append((folder / name).read_bytes())
    fleet.close()
    yield found[0], found[1]


def refused(data: bytes, words: bytes, folder: Path) -> bool:
    """Try to restore; say whether that was refused, with nothing left behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "file").write_bytes(data)
    try:
        restore.restore(FleetConfig(root=folder / "again"), folder / "file", 1.8e9, words)
    except FleetError as error:
        assert "\n" not in str(error) and error.hint
        assert [each.name for each in folder.iterdir()] == ["file"]
        return True
    return False


@settings(max_examples=10)
@given(share=st.floats(0, 0.999), sealed=st.booleans())
def test_a_file_that_is_cut_off_is_refused(
    tmp_path_factory: pytest.TempPathFactory, whole: tuple[bytes, bytes], share: float, sealed: bool
) -> None:
    data = whole[sealed]
    end = len(data) if sealed else data.rindex(b"end.json")  # behind its last entry an archive is only zeros
    folder = tmp_path_factory.getbasetemp() / "cut"
    assert refused(data[: int(share * end)], WORDS, folder)


@settings(max_examples=10)
@given(share=st.floats(0, 0.999), sealed=st.booleans())
def test_a_file_that_was_altered_is_refused_or_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, whole: tuple[bytes, bytes], share: float, sealed: bool
) -> None:
    data = bytearray(whole[sealed])
    data[int(share * len(data))] ^= 0x41
    folder = tmp_path_factory.getbasetemp() / "altered"
    if not refused(bytes(data), WORDS, folder):
        assert not sealed
        again = restore.restore(FleetConfig(root=folder / "once more"), folder / "file", 1.8e9, b"")
        assert again.rows > 0 and again.audit > 0


def entry(tar: tarfile.TarFile, name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, "/etc/passwd"
    tar.addfile(info, io.BytesIO(data))


HEAD = {"format": 1, "skerry": "0.1.0", "step": "0001", "tenant": "default", "made_ms": 0, "keys": False}


@pytest.mark.parametrize(
    ("head", "name", "kind", "words"),
    [
        ({"format": 2, "skerry": "9.0"}, "x", tarfile.REGTYPE, "made by skerry 9.0"),
        ({"step": "9999"}, "x", tarfile.REGTYPE, "newer than this"),
        ({}, "files/../../out", tarfile.REGTYPE, "no place for"),
        ({}, "/etc/out", tarfile.REGTYPE, "no place for"),
        ({}, "files/blobs/link", tarfile.SYMTYPE, "is no file"),
        ({}, "files/blobs/ab/abcd", tarfile.REGTYPE, "blob abcd"),
        ({}, "tables/nothing/000000.jsonl", tarfile.REGTYPE, "cut off or damaged"),
        ({}, "end.json", tarfile.REGTYPE, "cut off or damaged"),
    ],
)
def test_what_no_backup_holds_is_refused(
    tmp_path: Path, head: dict[str, Any], name: str, kind: bytes, words: str
) -> None:
    with tarfile.open(tmp_path / "made", "w") as tar:
        entry(tar, "backup.json", json.dumps({**HEAD, **head}).encode())
        entry(tar, name, b"{}\n", kind)
    with pytest.raises(FleetError, match=words):
        restore.restore(FleetConfig(root=tmp_path / "again"), tmp_path / "made", 0.0, b"")
    assert [each.name for each in tmp_path.iterdir()] == ["made"]


def test_the_commands_say_what_is_wrong(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, target, words = bench.fleet.config, tmp_path / "b", tmp_path / "words"
    words.write_text("correct horse\n")
    where = ["--root", str(config.root), *(["--database-url", config.database_url] if config.database_url else [])]
    assert main(["backup", str(target), *where]) == 0 and "private keys unencrypted" in capsys.readouterr().err
    assert main(["backup", str(target), *where]) == 1 and "there already" in capsys.readouterr().err
    sealed = [str(tmp_path / "s"), "--passphrase-file", str(words)]
    assert main(["backup", *sealed, *where, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["sealed"] and not told.err
    again = ["--root", str(tmp_path / "again")]
    words.write_text("wrong\n")
    for arguments, said in (
        ([str(tmp_path / "nothing")], "No such file"),
        ([str(words)], "no backup"),
        ([str(tmp_path / "s")], "is sealed"),
        (sealed, "another passphrase"),
        ([str(target), "--passphrase-file", str(tmp_path / "gone")], "cannot read"),
    ):
        assert main(["restore", *arguments, *again]) == 1
        assert said in capsys.readouterr().err
    assert main(["restore", str(target), *again]) == 0 and "the audit chain holds" in capsys.readouterr().out
    assert main(["restore", str(target), *again]) == 1 and "is not empty" in capsys.readouterr().err


@settings(max_examples=8)
@given(st.binary(max_size=3 * sealing.CHUNK), st.integers(100, 100_000))
def test_sealed_bytes_come_back_as_they_were(data: bytes, step: int) -> None:
    file = io.BytesIO()
    writer = sealing.SealedWriter(file, WORDS)
    for at in range(0, len(data), step):
        writer.write(data[at : at + step])
    writer.close()
    file.seek(len(sealing.MAGIC))
    reader = sealing.SealedReader(file, WORDS)
    found = b""
    while piece := reader.read(step):
        found += piece
    assert found == data
    cut = io.BytesIO(file.getvalue()[len(sealing.MAGIC) : -1])
    with pytest.raises(InputError):
        while sealing.SealedReader(cut, WORDS).read(1 << 30):
            pass
