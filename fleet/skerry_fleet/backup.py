"""A whole fleet in one file, written while it serves: every row as of one moment, keys, metadata, blobs.

The file is a tar archive: `backup.json` (what it is), `tables/NAME/NNNNNN.jsonl` (rows, the same for every database),
`files/…` (the folder), `end.json` (the SHA-256 of every entry before it). Rows are read in one transaction, files after
it: a blob is kept before the row that names it, and what the update repository is ahead by is finished at a start.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

import sqlalchemy
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from skerry_fleet.blobs import open_blobs
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import ConflictError, InputError
from skerry_fleet.migrations import upgrade
from skerry_fleet.sealing import SealedWriter
from skerry_fleet.sql.dialect import Dialect
from skerry_fleet.trust.repository import Repository

FORMAT = 1
PART_BYTES = 4 << 20
PIECE_BYTES = 1 << 20
FETCH = 2000
HEAD, NUMBERS, END = "backup.json", "tables/numbers.json", "end.json"
_LEFT_OUT = {"broker", "fleet.lock"}  # made anew at every start
SECRET = ("trust/keys/", "admin.key", "dashboard.key", "secrets.key")
"""Who has these can order the devices, and speak for the fleet."""


@dataclasses.dataclass(slots=True)
class Written:
    """What a backup holds. `damaged`: blobs that are not what their names say, and were left out."""

    rows: int = 0
    files: int = 0
    size_bytes: int = 0
    keys: bool = True
    sealed: bool = False
    damaged: list[str] = dataclasses.field(default_factory=list)


def write(config: FleetConfig, dialect: Dialect, target: Path, now: float, passphrase: bytes, *, keys: bool) -> Written:
    """Write a backup of a fleet to a file, readable by its owner only. An empty passphrase leaves it unencrypted.

    Raises:
        ConflictError: the file is there already, or the database is of another version.
        OSError: no room, no right; nothing is left behind.
    """
    if target.exists():
        raise ConflictError(f"{target} is there already", hint="a backup is never overwritten: give another name")
    arriving = target.with_name(f"{target.name}.part")
    arriving.unlink(missing_ok=True)
    descriptor = os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            sealed = SealedWriter(file, passphrase) if passphrase else None
            found = _Writer(cast(BinaryIO, sealed or file)).all(config, dialect, now, keys)
            if sealed is not None:
                sealed.close()
            found.sealed, found.size_bytes = sealed is not None, file.tell()
            file.flush()
            os.fsync(file.fileno())
        arriving.replace(target)
    except BaseException:
        arriving.unlink(missing_ok=True)
        raise
    return found


class _Writer:
    """Writes the entries one after the other, and remembers their digests."""

    def __init__(self, sink: BinaryIO) -> None:
        self._tar = tarfile.open(mode="w|", fileobj=sink, format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed in `all`
        self._digests: dict[str, str] = {}
        self._said = Written()

    def all(self, config: FleetConfig, dialect: Dialect, now: float, keys: bool) -> Written:
        self._said.keys = keys
        with dialect.reader.connect() as connection:
            at = upgrade.revision(connection)
            if at != upgrade.HEAD:
                raise ConflictError(f"the database is at step {at}, not {upgrade.HEAD}", hint="skerry fleet migrate")
            head = {"format": FORMAT, "skerry": version("skerry"), "step": at, "tenant": config.tenant}
            self._json(HEAD, {**head, "made_ms": int(now * 1000), "keys": keys})
            self._tables(connection, dialect)
        self._files(config.root, keys)
        self._blobs(config)
        self._json(END, self._digests)
        self._tar.close()
        return self._said

    def _tables(self, connection: Connection, dialect: Dialect) -> None:
        numbers = {}
        for table in SQLModel.metadata.sorted_tables:
            columns = [column.name for column in table.columns]
            streamed = connection.execution_options(yield_per=FETCH)
            lines = (_line(row) for row in streamed.execute(sqlalchemy.select(table)))
            for at, part in enumerate(_parts(lines)):
                body = json.dumps(columns) + "\n" + "".join(part)
                self._put(f"tables/{table.name}/{at:06}.jsonl", body.encode())
                self._said.rows += len(part)
            if "id" in table.c and isinstance(table.c.id.type, sqlalchemy.BigInteger):
                numbers[table.name] = dialect.last_number(connection, table.name)
        self._json(NUMBERS, numbers)

    def _files(self, root: Path, keys: bool) -> None:
        repository = root / "trust" / "tuf"
        for path in _listed(root):
            name = path.relative_to(root).as_posix()
            if (
                not name.startswith("blobs/")
                and not name.startswith("trust/tuf/")
                and (keys or not name.startswith(SECRET))
            ):
                self._copy(path, name)
        if (repository / "metadata").is_dir():
            # Nothing is published meanwhile, so that the metadata's versions belong together.
            with Repository(repository, cast(Any, None)).locked():
                for path in _listed(repository):
                    self._copy(path, path.relative_to(root).as_posix())

    def _copy(self, path: Path, name: str) -> None:
        try:
            data, mode = path.read_bytes(), path.stat().st_mode & 0o777
        except FileNotFoundError:
            return  # replaced or removed in this moment
        self._put(f"files/{name}", data, mode)
        self._said.files += 1

    def _blobs(self, config: FleetConfig) -> None:
        """Add every blob, wherever they are kept; a damaged one must not be in the file at all, so it is looked at
        first: where it lies, or in a copy.
        """
        store = open_blobs(config)
        for sha256 in store.all():
            path = store.path(sha256)
            with tempfile.TemporaryFile(dir=config.root) if path is None else path.open("rb") as file:
                if path is None:
                    file.writelines(store.pieces(sha256))
                    file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    self._said.damaged.append(sha256)
                    continue
                entry = tarfile.TarInfo(f"files/blobs/{sha256[:2]}/{sha256}")
                entry.size, entry.mode = file.tell(), 0o644
                file.seek(0)
                self._tar.addfile(entry, file)
            self._digests[entry.name] = sha256
            self._said.files += 1

    def _json(self, name: str, value: object) -> None:
        self._put(name, json.dumps(value, sort_keys=True).encode())

    def _put(self, name: str, data: bytes, mode: int = 0o600) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), mode
        self._tar.addfile(entry, io.BytesIO(data))
        self._digests[name] = hashlib.sha256(data).hexdigest()


def _listed(root: Path) -> list[Path]:
    """Return the files below a folder, sorted; not the database's, nor those that are half written."""
    found = []
    for folder, folders, names in os.walk(root):
        inside = Path(folder).relative_to(root).parts
        folders[:] = sorted(each for each in folders if inside or each not in _LEFT_OUT)
        for name in sorted(names):
            path = Path(folder, name)
            own = not inside and (name in _LEFT_OUT or name.startswith("fleet.db"))
            if not own and not name.startswith(".") and path.is_file() and not path.is_symlink():
                found.append(path)
    return found


def _line(row: Iterable[Any]) -> str:
    plain = [{"b64": base64.b64encode(each).decode()} if isinstance(each, bytes) else each for each in row]
    return json.dumps(plain, ensure_ascii=False) + "\n"


def _parts(lines: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def passphrase_of(path: str | None) -> bytes:
    """Return the first line of a file; nothing where none is named.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    if path is None:
        return b""
    try:
        found = Path(path).read_bytes().partition(b"\n")[0].strip()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        raise InputError(f"{path} holds no passphrase in its first line")
    return found
