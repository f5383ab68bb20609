"""Changes of many rows at once, said once for every database.

SQLite is quickest with one statement run for each row; PostgreSQL with rows that were copied into a staging table and
one statement over all of them. Each change knows both forms. In conditions `:name` is the row's value.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Protocol

Row = dict[str, Any]
VALUE = re.compile(r":(\w+)")


class Change(Protocol):
    """One kind of change to one table. `columns` are what each row must hold."""

    @property
    def table(self) -> str:
        """The table that is changed."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that rows hold a value for."""
        ...

    def each(self) -> str:
        """Return the statement for one row, its values as `:name`."""
        ...

    def all(self, staged: str) -> str:
        """Return the statement for all rows of the table `staged`, which has these columns and `n`, their order."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Insert:
    """New rows; `conflict` says what happens to those that are there. Rows that would meet each other are the caller's
    to merge.
    """

    table: str
    columns: tuple[str, ...]
    conflict: str = ""

    def each(self) -> str:
        """See `Change`."""
        values = ", ".join(f":{name}" for name in self.columns)
        return f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES ({values}) {self.conflict}"

    def all(self, staged: str) -> str:
        """See `Change`."""
        names = ", ".join(self.columns)
        return f"INSERT INTO {self.table} ({names}) SELECT {names} FROM {staged} ORDER BY n {self.conflict}"


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """New values for rows that are there, found by `key`; no key may come twice. `only`: a further condition."""

    table: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    only: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Change`."""
        return self.key + self.values

    def each(self) -> str:
        """See `Change`."""
        values = ", ".join(f"{name} = :{name}" for name in self.values)
        return f"UPDATE {self.table} SET {values} WHERE {_found(self.table, self.key, self.only)}"

    def all(self, staged: str) -> str:
        """See `Change`."""
        values = ", ".join(f"{name} = staged.{name}" for name in self.values)
        found = VALUE.sub(r"staged.\1", _found(self.table, self.key, self.only))
        return f"UPDATE {self.table} SET {values} FROM {staged} staged WHERE {found}"


@dataclasses.dataclass(frozen=True, slots=True)
class Delete:
    """Rows taken away: those that `key` and `only` fit. `others` are columns that only the condition needs."""

    table: str
    key: tuple[str, ...]
    others: tuple[str, ...] = ()
    only: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Change`."""
        return self.key + self.others

    def each(self) -> str:
        """See `Change`."""
        return f"DELETE FROM {self.table} WHERE {_found(self.table, self.key, self.only)}"

    def all(self, staged: str) -> str:
        """See `Change`."""
        found = VALUE.sub(r"staged.\1", _found(self.table, self.key, self.only))
        return f"DELETE FROM {self.table} USING {staged} staged WHERE {found}"


def _found(table: str, key: tuple[str, ...], only: str) -> str:
    return " AND ".join([*(f"{table}.{name} = :{name}" for name in key), *([only] if only else [])])
