"""Tables as they were at one step, written shortly: later changes of the models must not change what a step makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

TEXT = Text(collation="C")
ROW_ID = BigInteger().with_variant(Integer, "sqlite")
KINDS: dict[str, TypeEngine[Any]] = {
    "string": String().with_variant(TEXT, "postgresql"),
    "text": Text().with_variant(TEXT, "postgresql"),
    "big": BigInteger(),
    "integer": Integer(),
    "boolean": Boolean(),
    "real": Float(),
    "blob": LargeBinary(),
    "number": ROW_ID,
}


def table(
    metadata: MetaData,
    name: str,
    key: str,
    *,
    optional: str = "",
    once: str = "",
    never_reused: bool = False,
    **columns: str,
) -> Table:
    """Add a table: column names by kind (`KINDS`), separated by blanks; those of `optional` may be null.

    `once` are columns that together come only once; `never_reused`: no number is given twice, even of deleted rows.
    """
    keys, nullable = key.split(), optional.split()
    made = []
    for kind, names in columns.items():
        for each in names.split():
            made.append(
                Column(each, KINDS[kind], primary_key=each in keys, nullable=each in nullable, autoincrement="auto")
            )
    made.sort(key=lambda column: keys.index(column.name) if column.name in keys else len(keys))
    unique = [UniqueConstraint(*once.split(), name=f"{name}_once")] if once else []
    return Table(name, metadata, *made, *unique, sqlite_autoincrement=never_reused)


def index(metadata: MetaData, name: str, of: str, columns: str, *, unique: bool = False, where: str = "") -> Index:
    """Add an index of some columns; `where`: of only those rows."""
    condition = sqlalchemy.text(where) if where else None
    chosen = [metadata.tables[of].c[each] for each in columns.split()]
    return Index(name, *chosen, unique=unique, sqlite_where=condition, postgresql_where=condition)


def create(tables: Sequence[Table]) -> None:
    """Make these tables and their indexes, in this step."""
    for each in tables:
        op.execute(CreateTable(each))
        for of in sorted(each.indexes, key=lambda index: str(index.name)):
            op.execute(CreateIndex(of))
