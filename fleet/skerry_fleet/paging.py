"""Pages of a list: `?after=CURSOR&limit=N` in, `{"items": [...], "next": CURSOR or null}` out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from skerry_fleet.errors import InputError

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_INT64 = 2**63 - 1
MAX_LETTER = "\U0010ffff"
NOTHING: Mapping[str, str] = {}

T = TypeVar("T")
Q = TypeVar("Q", bound=Any)


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted: what comes after a cursor (empty: from the beginning), at most `limit` items."""

    after: str = ""
    limit: int = DEFAULT_LIMIT

    @property
    def after_id(self) -> int | None:
        """The cursor as a row's number; None from the beginning.

        Raises:
            InputError: not a number this list has given out.
        """
        if not self.after:
            return None
        if not (self.after.isascii() and self.after.isdigit()) or int(self.after) > MAX_INT64:
            raise InputError(f"after={self.after!r:.40} is no cursor of this list", hint="pass on `next` as it came")
        return int(self.after)


def page(after: str | None, limit: str | None) -> Page:
    """Return the page that a query asks for.

    Raises:
        InputError: a limit that is no number from 1 to 1000, or a cursor that cannot be one.
    """
    count = DEFAULT_LIMIT
    if limit is not None:
        if not (limit.isascii() and limit.isdigit()) or not 1 <= int(limit[:9]) <= MAX_LIMIT or len(limit) > 9:
            raise InputError(f"limit={limit!r:.40} is not a whole number from 1 to {MAX_LIMIT}")
        count = int(limit)
    if after is not None and (len(after) > 200 or not (after.isascii() and after.isprintable())):
        raise InputError("after is no cursor of this list", hint="pass on `next` as it came")
    return Page(after or "", count)


def narrowed(query: Q, table: type[Any], only: Mapping[str, str]) -> Q:
    """Return a query of those rows alone whose columns are as named; an empty text names nothing."""
    for name, value in only.items():
        if value:
            query = query.where(getattr(table, name) == value)
    return query


def beginning(query: Q, column: Any, q: str) -> Q:
    """Return a query of those rows alone whose column begins with a text (by bytes, as the lists are sorted)."""
    if q:
        query = query.where(column >= q, column < q + MAX_LETTER)
    return query


def listing(
    rows: Sequence[T], page: Page, view: Callable[[T], dict[str, Any]], cursor: Callable[[T], object]
) -> dict[str, Any]:
    """Return one page of `rows`, of which there is one more than asked for where the list goes on."""
    shown = rows[: page.limit]
    following = str(cursor(shown[-1])) if len(rows) > page.limit else None
    return {"items": [view(row) for row in shown], "next": following}
