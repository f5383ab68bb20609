"""Many rows in one call: changed or read in a session's transaction, past the ORM and past SQLAlchemy's own look at
each value, which together cost more than the database does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlmodel import Session

from skerry_fleet.sql.changes import Change, Row

if TYPE_CHECKING:
    from skerry_fleet.sql.dialect import Dialect

DIALECT = "dialect"
"""Where a session keeps its database's dialect (`Session.info`)."""


def many(session: Session, change: Change, rows: Sequence[Row]) -> None:
    """Make a change for every row. Nothing of the session is flushed first, and no object in it hears of it."""
    if rows:
        _dialect(session).many(session.connection(), change, rows)


def among(session: Session, statement: str, names: Iterable[str], **values: Any) -> Sequence[Any]:
    """Return the rows of a query in which `{among}` follows the column that must be one of `names`.

    Other values are written `:name`. Rows come in no order that is promised.
    """
    wanted = sorted(set(names))
    return _dialect(session).among(session.connection(), statement, wanted, values) if wanted else ()


def _dialect(session: Session) -> Dialect:
    found: Dialect = session.info[DIALECT]
    return found
