"""The audit chain as a file: written by a serving fleet, verified by anybody without it.

JSON lines. The first says what it is, and the hash that the first record follows; then one record a line, with `before`
and `after` as the text that was hashed; the last says how many there were and the hash of the newest. Every record's
`hash` is the SHA-256 over canonical JSON of [[seq, time_ms], [previous_hash, tenant, actor, action, object, before,
after, request]]. Whoever can write the file can make a whole new chain: compare its head with one noted elsewhere.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from sqlmodel import col, select

from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_fleet import audit
from skerry_fleet.audit import GENESIS
from skerry_fleet.database import Database
from skerry_fleet.errors import InputError, MissingError
from skerry_fleet.records import Audit, AuditHead

FORMAT = "skerry-audit-1"
MEDIA = "application/jsonl"
MAX_LINE = 16 << 20
_PAGE = 2000
_FIELDS = {*audit.NUMBERS, *audit.TEXTS, "hash"}


def lines(database: Database, tenant: str, after: int = 0) -> Iterator[bytes]:
    """Yield a tenant's chain behind record `after`, as it is at this moment, some thousand lines at a time.

    Raises:
        MissingError: there is no record of that number to go on from.
    """
    with database.read() as session:
        head = session.get(AuditHead, tenant)
        newest, last = (head.seq, head.hash) if head is not None else (0, GENESIS)
        before = session.get(Audit, (tenant, after)) if after else None
    if after and before is None:
        raise MissingError(f"no record {after} in the audit", hint="leave `after` out for the whole chain")
    follows = GENESIS if before is None else before.hash
    return itertools.chain(
        [_line({"format": FORMAT, "tenant": tenant, "after": after, "previous_hash": follows})],
        _records(database, tenant, after, newest),
        [_line({"records": newest - after, "head": last})],
    )


def _records(database: Database, tenant: str, after: int, newest: int) -> Iterator[bytes]:
    while after < newest:
        with database.read() as session:
            query = select(Audit).where(Audit.tenant == tenant, Audit.seq > after, Audit.seq <= newest)
            rows = session.exec(query.order_by(col(Audit.seq)).limit(_PAGE)).all()
            found = b"".join(_line(row.model_dump(include=_FIELDS)) for row in rows)
        if not rows:
            return  # records are missing: whoever verifies the file is told
        after = rows[-1].seq
        yield found


def _line(record: dict[str, Any]) -> bytes:
    return msgspec.json.encode(record, order="deterministic") + b"\n"


@dataclasses.dataclass(slots=True)
class Found:
    """What verifying came to. `broken_at` names the first line that does not fit, as `FILE:LINE`."""

    tenant: str = ""
    after: int = 0
    records: int = 0
    head: str = GENESIS
    broken_at: str | None = None
    problem: str = ""


class _Broken(Exception):
    """The chain does not hold here."""


def verify(paths: Sequence[Path], head: str = "") -> Found:
    """Walk files that follow one another; `head` is a hash noted earlier, which has to be in them.

    Raises:
        InputError: a file cannot be read, or holds no audit at all.
    """
    found, seen = Found(), False
    for at, path in enumerate(paths):
        number = 0
        try:
            with path.open("rb") as file:
                for number, said in _walk(file, found, first=at == 0):  # noqa: B007 - told below
                    seen = seen or said == head
        except _Broken as error:
            found.broken_at, found.problem = f"{path.name}:{number + 1}", str(error)
            return found
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
    if head and not seen:
        found.broken_at, found.problem = f"{paths[-1].name}:1", f"the noted head {head:.16} is in no record of it"
    return found


def _walk(file: BinaryIO, found: Found, *, first: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, hash) of every record that fits, and the hash that the file begins behind."""
    opening = _read(file)
    if opening is None or opening.get("format") != FORMAT:
        raise InputError("this is no exported audit", hint=f"its first line says {FORMAT}; skerry fleet audit export")
    if set(opening) != {"format", "tenant", "after", "previous_hash"}:
        raise _Broken("was altered")
    if first:
        found.tenant, found.after, found.head = opening["tenant"], opening["after"], opening["previous_hash"]
        if found.after == 0 and found.head != GENESIS:
            raise _Broken("was altered: nothing comes before the first record")
    elif (opening["tenant"], opening["after"], opening["previous_hash"]) != (
        found.tenant,
        found.after + found.records,
        found.head,
    ):
        raise _Broken("does not go on where the file before it ends")
    begun = found.records
    yield 1, found.head
    for number in itertools.count(2):
        record = _read(file)
        if record is None:
            raise _Broken("the file is cut off: its last line is missing")
        if set(record) == {"records", "head"}:
            if (record["records"], record["head"]) != (found.records - begun, found.head):
                raise _Broken(f"the end says {record['records']} records: some are missing, or were added")
            if file.readline(1):
                number += 1
                yield number - 1, ""
                raise _Broken("something stands behind the end")
            return
        _check(record, found)
        yield number, found.head


def _read(file: BinaryIO) -> dict[str, Any] | None:
    text = file.readline(MAX_LINE)
    if not text:
        return None
    try:
        record = codec.parse_json(text, max_bytes=MAX_LINE)
    except ContractError as error:
        raise _Broken(f"is no record: {error}") from error
    if not isinstance(record, dict) or not text.endswith(b"\n"):
        raise _Broken("is no record, or cut short")
    return record


def _check(record: dict[str, Any], found: Found) -> None:
    numbers = all(isinstance(record.get(name), int) for name in audit.NUMBERS)
    if set(record) != _FIELDS or not numbers or not all(isinstance(record[name], str) for name in audit.TEXTS):
        raise _Broken("is no record of an audit")
    expected = found.after + found.records + 1
    if record["seq"] != expected:
        raise _Broken(f"is record {record['seq']} where {expected} comes: removed, added or put elsewhere")
    if audit.digest_of(record) != record["hash"]:
        raise _Broken(f"record {expected} was altered")
    if record["previous_hash"] != found.head or record["tenant"] != found.tenant:
        raise _Broken(f"record {expected} does not follow the one before it")
    found.records += 1
    found.head = record["hash"]
