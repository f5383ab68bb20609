"""A look into a ledger that may be in use by a running agent."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def inspect(path: Path) -> dict[str, bytes]:
    """Return every key of a ledger that may be in use, after a check; nothing is repaired or written.

    Raises:
        sqlite3.Error: it cannot be read, or is damaged.
    """
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        if (found := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        return {str(key): bytes(value) for key, value in db.execute("SELECT key, value FROM memory")}
    finally:
        db.close()
