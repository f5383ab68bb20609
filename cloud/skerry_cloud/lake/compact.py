"""Many small segments become few: a pull each second would else leave a file each second.

A new segment takes the rows of the old ones, and one transaction moves the index to it. The old ones are only marked as
retired: a reader that listed rows before may still open them. The next round removes them.
"""

from __future__ import annotations

import sqlite3

from skerry_cloud.lake.lake import Lake, list_segment
from skerry_cloud.lake.segments import SCHEMAS, read_segment, write_segment

SMALL_ROWS = 2000
LEAST_SEGMENTS = 64
RETIRED = "retired"


def compact(lake: Lake, *, small_rows: int = SMALL_ROWS, least_segments: int = LEAST_SEGMENTS) -> int:
    """Merge small segments of each kind, where there are enough of them; return how many were merged.

    Only the lake's writer may call it.

    Raises:
        DataError: a segment cannot be read, or the disk refuses; then nothing is moved.
    """
    query = "SELECT id, name, rows FROM segment WHERE kind = ? AND rows < ? ORDER BY id LIMIT ?"
    small = {kind: lake.database.rows(query, (kind, small_rows, 4 * least_segments)) for kind in SCHEMAS}
    due = {kind: segments for kind, segments in small.items() if len(segments) >= least_segments}
    if due:
        _remove_retired(lake)
    for kind, segments in due.items():
        _merge(lake, kind, segments)
    return sum(len(segments) for segments in due.values())


def _merge(lake: Lake, kind: str, segments: list[sqlite3.Row]) -> None:
    rows = [row for each in segments for row in read_segment(lake.folder, each["name"])]
    file = write_segment(lake.folder, kind, rows)
    with lake.database.transaction() as connection:
        fresh = list_segment(connection, kind, file, len(rows))
        offset = 0
        for each in segments:
            connection.execute(
                f"UPDATE {kind} SET segment = ?, row = row + ? WHERE segment = ?", (fresh, offset, each["id"])
            )
            connection.execute("UPDATE segment SET kind = ? WHERE id = ?", (RETIRED, each["id"]))
            offset += each["rows"]


def _remove_retired(lake: Lake) -> None:
    """Remove what earlier rounds retired: first the rows, then the files; a crash in between leaves unlisted files."""
    retired = lake.database.rows("SELECT id, name FROM segment WHERE kind = ?", (RETIRED,))
    with lake.database.transaction() as connection:
        connection.executemany("DELETE FROM segment WHERE id = ?", [(row["id"],) for row in retired])
    for row in retired:
        (lake.folder / row["name"]).unlink(missing_ok=True)
