"""Rows that the database itself makes into JSON, so that a whole page is one row.

A driver lets go of the interpreter for each row that it fetches, and whoever is busy elsewhere in the process takes it:
beside ingest, a page of fifty devices with their models would wait its turn two hundred times. One row is one turn, and
what makes it runs beside Python.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class JsonWords:
    """How one database is told to make JSON. `{}` is an expression; `{name}` a key of an object kept as text."""

    make_object: str
    every: str
    text: str
    truth: str
    part: str

    def object(self, **parts: str) -> str:
        """Return an object of expressions, each a value of its own kind."""
        return f"{self.make_object}({', '.join(f'{name!r}, {value}' for name, value in parts.items())})"

    def array(self, value: str) -> str:
        """Return all values of an expression: an empty array where there is none. Their order is not promised."""
        return self.every.format(value)

    def kept(self, column: str) -> str:
        """Return JSON that a column keeps as text."""
        return self.text.format(column)

    def flag(self, column: str) -> str:
        """Return what is true or false."""
        return self.truth.format(column)

    def of(self, column: str, name: str) -> str:
        """Return a text of an object that a column keeps as text; empty where it has none of that name."""
        return f"coalesce({self.part.format(column, name=name)}, '')"


WORDS = {
    "sqlite": JsonWords(
        "json_object", "json_group_array({})", "json({})", "json(iif({}, 'true', 'false'))",
        "json_extract({}, '$.\"{name}\"')",
    ),
    "postgresql": JsonWords(
        "json_build_object", "coalesce(json_agg({}), '[]')", "{}::json", "{}", "{}::json->>'{name}'",
    ),
}  # fmt: skip
