"""A fleet made anew from a backup, on either database: whole and verified, or not at all. See `backup.py`."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import sqlalchemy
from sqlalchemy.engine import Connection
from sqlalchemy.exc import CompileError, DataError, IntegrityError, NoSuchTableError
from sqlmodel import Session

from skerry_fleet import audit, backup
from skerry_fleet.backup import END, FORMAT, HEAD, NUMBERS, PIECE_BYTES
from skerry_fleet.blobs import BlobStore, open_blobs
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import ConflictError, InputError
from skerry_fleet.migrations import upgrade
from skerry_fleet.sealing import MAGIC, SealedReader
from skerry_fleet.sql.dialect import Dialect, open_dialect
from skerry_fleet.trust import durable, keys
from skerry_fleet.trust.errors import TrustError
from skerry_fleet.trust.repository import Repository

MAX_SMALL_BYTES = 1 << 28
_FILE = re.compile(r"files/(?:[\w@+-][\w.@+-]*/)*[\w@+-][\w.@+-]*")
_TABLE = re.compile(r"tables/([a-z_]+)/\d{6}\.jsonl")
_NONSENSE = (
    tarfile.TarError,
    EOFError,
    ValueError,
    KeyError,
    NoSuchTableError,
    CompileError,
    DataError,
    IntegrityError,
)
_WHOLE = "the backup is cut off or damaged"


@dataclasses.dataclass(slots=True)
class Restored:
    """What was brought back. `audit` counts the records of the audit chain, which holds."""

    made_ms: int
    tenant: str
    keys: bool
    rows: int = 0
    files: int = 0
    audit: int = 0


def restore(config: FleetConfig, source: Path, now: float, passphrase: bytes) -> Restored:
    """Make the fleet of a backup in a folder that is empty or not there, and a database without tables.

    Raises:
        ConflictError: folder or database are in use; the backup is of a newer version.
        InputError: no backup, cut off, altered, or sealed for another passphrase.
    """
    if config.root.exists() and (not config.root.is_dir() or any(config.root.iterdir())):
        raise ConflictError(f"{config.root} is not empty", hint="restore into a new folder")
    config.root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{config.root.name}.", dir=config.root.parent) as folder:
        stage = Path(folder, "fleet")
        stage.mkdir(mode=0o700)
        url = config.url if config.database_url else f"sqlite:///{stage / 'fleet.db'}"
        dialect = open_dialect(url)
        try:
            with source.open("rb") as file:
                found = _into(config, stage, dialect, file, passphrase, now)
        finally:
            dialect.close()
        durable.sync_dir(stage)
        if config.root.exists():
            config.root.rmdir()
        stage.replace(config.root)
        durable.sync_dir(config.root.parent)
    return found


def _into(
    config: FleetConfig, stage: Path, dialect: Dialect, file: BinaryIO, passphrase: bytes, now: float
) -> Restored:
    """Read everything in one transaction of the database, which ends only if all of it is in order."""
    with dialect.writer.begin() as connection:
        dialect.exclusive(connection)
        if sqlalchemy.inspect(connection).get_table_names():
            raise ConflictError("the database is not empty", hint="restore into a new database or schema")
        try:
            with tarfile.open(mode="r|", fileobj=cast(BinaryIO, _opened(file, passphrase))) as tar:
                found = _Reader(stage, dialect, connection, tar).all()
            found.audit = _audited(connection, found.tenant)
            if found.keys:
                Repository(stage / "trust" / "tuf", keys.KeyStore(stage / "trust" / "keys")).overtake(now)
            if config.blob_url:
                _elsewhere(config, stage)
            return found
        except TrustError as error:
            raise InputError(f"the backup's update repository: {error}", hint=error.hint) from error
        except _NONSENSE as error:
            raise InputError(f"{_WHOLE}, or the file is no backup", hint="try another copy") from error


def _elsewhere(config: FleetConfig, stage: Path) -> None:
    """Bring the blobs to where this fleet keeps them; one that is there already is the same."""
    store, here = open_blobs(dataclasses.replace(config, root=stage)), BlobStore(stage / "blobs")
    for sha256 in here.all():
        if not store.has(sha256, here.size(sha256) or 0):
            store.put(sha256, here.pieces(sha256))
    shutil.rmtree(here.root)


def _opened(file: BinaryIO, passphrase: bytes) -> BinaryIO | SealedReader:
    sealed = file.read(len(MAGIC)) == MAGIC
    if sealed and not passphrase:
        raise InputError("the backup is sealed", hint="give --passphrase-file")
    if not sealed:
        file.seek(0)
        return file
    return SealedReader(file, passphrase)


class _Reader:
    """Takes in the entries one after the other."""

    def __init__(self, stage: Path, dialect: Dialect, connection: Connection, tar: tarfile.TarFile) -> None:
        self._stage, self._dialect, self._connection, self._tar = stage, dialect, connection, tar
        self._digests: dict[str, str] = {}
        self._tables: dict[str, sqlalchemy.Table] = {}

    def all(self) -> Restored:
        entries = iter(self._tar)
        said = self._begin(next(entries, None))
        for entry in entries:
            if not entry.isreg():
                raise InputError(f"{_WHOLE}: {entry.name!r:.80} is no file", hint="try another copy")
            if entry.name == END:
                self._finish(json.loads(self._small(entry)), said)
                return said
            if entry.name == NUMBERS:
                for table, last in json.loads(self._small(entry)).items():
                    self._dialect.numbered(self._connection, table, last)
            elif table_of := _TABLE.fullmatch(entry.name):
                said.rows += self._rows(table_of[1], self._small(entry))
            elif _FILE.fullmatch(entry.name):
                self._file(entry)
                said.files += 1
            else:
                raise InputError(f"{_WHOLE}: no place for {entry.name!r:.80}", hint="try another copy")
        raise InputError(f"{_WHOLE}: its end is missing", hint="try another copy")

    def _begin(self, entry: tarfile.TarInfo | None) -> Restored:
        if entry is None or entry.name != HEAD:
            raise InputError("this is no backup of a fleet", hint="make one with skerry fleet backup")
        head = json.loads(self._small(entry))
        if head["format"] != FORMAT or head["step"] not in upgrade.REVISIONS:
            raise ConflictError(
                f"the backup was made by skerry {head['skerry']:.40} (step {head['step']:.20}), newer than this",
                hint="restore it with that version",
            )
        upgrade.bring(self._connection, head["step"])
        return Restored(head["made_ms"], head["tenant"], head["keys"])

    def _finish(self, wanted: dict[str, str], said: Restored) -> None:
        if wanted != {name: digest for name, digest in self._digests.items() if name != END}:
            raise InputError(f"{_WHOLE}: an entry is not what its digest says", hint="try another copy")
        upgrade.bring(self._connection, upgrade.HEAD)

    def _rows(self, name: str, data: bytes) -> int:
        if name not in self._tables:
            self._tables[name] = sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=self._connection)
        head, *lines = data.decode().rstrip("\n").split("\n")
        columns = json.loads(head)
        rows = [dict(zip(columns, map(_value, json.loads(line)), strict=True)) for line in lines]
        self._connection.execute(self._tables[name].insert(), rows)
        return len(rows)

    def _file(self, entry: tarfile.TarInfo) -> None:
        path = self._stage / entry.name.removeprefix("files/")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if "/keys" in entry.name else 0o755)
        running = hashlib.sha256()
        with path.open("xb") as file:
            path.chmod(entry.mode & 0o700 if entry.name.removeprefix("files/").startswith(backup.SECRET) else 0o644)
            for piece in self._pieces(entry):
                running.update(piece)
                file.write(piece)
        if entry.name.startswith("files/blobs/") and path.name != running.hexdigest():
            raise InputError(f"{_WHOLE}: blob {path.name[:12]}", hint="try another copy")
        self._digests[entry.name] = running.hexdigest()

    def _small(self, entry: tarfile.TarInfo) -> bytes:
        if entry.size > MAX_SMALL_BYTES:
            raise InputError(f"{_WHOLE}: {entry.name!r:.80} has {entry.size} bytes", hint="try another copy")
        data = b"".join(self._pieces(entry))
        self._digests[entry.name] = hashlib.sha256(data).hexdigest()
        return data

    def _pieces(self, entry: tarfile.TarInfo) -> Iterator[bytes]:
        file, left = self._tar.extractfile(entry), entry.size
        while file is not None and left:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                break
            left -= len(piece)
            yield piece
        if left:
            raise InputError(f"{_WHOLE}: {entry.name!r:.80} ends early", hint="try another copy")


def _value(plain: Any) -> Any:
    return base64.b64decode(plain["b64"]) if isinstance(plain, dict) else plain


def _audited(connection: Connection, tenant: str) -> int:
    """Walk the audit chain; return the number of its records."""
    with Session(bind=connection) as session:
        walked = audit.verify(session, tenant)
    if walked.broken_at is not None:
        raise InputError(
            f"the audit chain breaks at record {walked.broken_at}: {walked.problem}", hint="try another copy"
        )
    return walked.records
