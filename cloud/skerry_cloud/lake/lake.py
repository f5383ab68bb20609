"""The lake: what devices sent, kept for ever, each message once and each input tensor once.

A commit is: write the segments durably under their content's name, then one SQLite transaction that lists them
together with the rows' index and the feed's cursor. A crash in between leaves files that nothing lists; the writer
removes them when it opens the lake.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from skerry_cloud.database import Database, insert
from skerry_cloud.errors import DataError, NotFoundError, RefusedError
from skerry_cloud.lake import batch as batches
from skerry_cloud.lake.rows import sample_row, sketch_row, told_again
from skerry_cloud.lake.segments import read_segment, write_segment
from skerry_contracts.sample import Sample
from skerry_contracts.sketch import Histogram, Sketch, merge_histograms

_SAMPLE_KEYS = ("device", "boot_id", "seq", "prediction", "model", "bundle", "kept", "time_s", "capture")
_SKETCH_KEYS = ("device", "boot_id", "seq", "model", "bundle", "start_s", "end_s", "predictions")


class Lake:
    """Samples and sketches. One process at a time may open it as `writer`; any number may read."""

    def __init__(self, folder: Path, database: Database, *, writer: bool = False) -> None:
        """Open the lake.

        Raises:
            RefusedError: another process is its writer.
        """
        self.folder = folder
        self.database = database
        folder.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = None
        if writer:
            self._lock = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._lock)
                raise RefusedError(
                    f"another process writes to {folder}", hint="stop the other `skerry cloud serve`"
                ) from error
            self._remove_unlisted()

    def close(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def cursor(self, feed: str) -> str | None:
        """Return up to where a feed has been taken in, or None."""
        row = self.database.row("SELECT value FROM cursor WHERE feed = ?", (feed,))
        return row["value"] if row else None

    def append_samples(self, items: Iterable[tuple[str, Sample]], *, cursor: str | None = None) -> int:
        """Keep (device, sample) pairs and the feed's cursor in one commit; return how many were new.

        A second message about the same prediction adds what it knows, and no row: see `rows.told_again`.

        Raises:
            DataError: the disk refuses; then nothing is kept.
        """
        fresh, again, better = told_again(self.database, self._fresh("sample", items))
        tensors: dict[str, bytes] = {}
        rows = [sample_row(device, sample, tensors) for device, sample in [*fresh, *better]]
        known = self._known_tensors(tensors)
        new = [{"sha256": key, "data": data} for key, data in tensors.items() if key not in known]
        tensor_file = write_segment(self.folder, "tensor", new) if new else None
        sample_file = write_segment(self.folder, "sample", rows) if rows else None
        with self.database.transaction() as connection:
            if tensor_file:
                segment = list_segment(connection, "tensor", tensor_file, len(new))
                connection.executemany(
                    "INSERT OR IGNORE INTO tensor VALUES (?, ?, ?)",
                    [(each["sha256"], segment, number) for number, each in enumerate(new)],
                )
            if sample_file:
                segment = list_segment(connection, "sample", sample_file, len(rows))
                connection.executemany(
                    insert("sample", *_SAMPLE_KEYS, "segment", "row"),
                    [(*(row[key] for key in _SAMPLE_KEYS), segment, i) for i, row in enumerate(rows[: len(fresh)])],
                )
                connection.executemany(
                    "UPDATE sample SET kept = ?, segment = ?, row = ? WHERE prediction = ?",
                    [(row["kept"], segment, i, row["prediction"]) for i, row in list(enumerate(rows))[len(fresh) :]],
                )
            connection.executemany(
                "UPDATE sample SET capture = ? WHERE prediction = ? AND capture IS NULL",
                [(sample.capture, sample.prediction) for _, sample in again],
            )
            _move_cursor(connection, "samples", cursor)
        return len(fresh)

    def append_sketches(self, items: Iterable[tuple[str, Sketch]], *, cursor: str | None = None) -> int:
        """Keep (device, sketch) pairs and the feed's cursor in one commit; return how many were new."""
        rows = [sketch_row(device, sketch) for device, sketch in self._fresh("sketch", items)]
        file = write_segment(self.folder, "sketch", rows) if rows else None
        with self.database.transaction() as connection:
            if file:
                segment = list_segment(connection, "sketch", file, len(rows))
                connection.executemany(
                    insert("sketch", *_SKETCH_KEYS, "segment", "row"),
                    [(*(row[key] for key in _SKETCH_KEYS), segment, i) for i, row in enumerate(rows)],
                )
            _move_cursor(connection, "sketches", cursor)
        return len(rows)

    def count(self, query: batches.SampleQuery) -> int:
        """Return how many samples a query has (its limit aside)."""
        where, parameters = _where(query)
        row = self.database.row(f"SELECT count(*) AS n FROM sample WHERE {where}", parameters)
        return int(row["n"]) if row else 0

    def samples(self, query: batches.SampleQuery) -> batches.SampleBatch:
        """Return samples in the order of arrival; those whose input is not here or of an odd shape are left out and
        counted.

        Raises:
            DataError: a segment cannot be read.
        """
        where, parameters = _where(query)
        order = "DESC" if query.newest else "ASC"
        listed = self.database.rows(
            f"SELECT id, segment, row FROM sample WHERE {where} ORDER BY id {order} LIMIT ?", (*parameters, query.limit)
        )
        return self._load(sorted(listed, key=lambda row: int(row["id"])))

    def by_prediction(self, predictions: Sequence[str]) -> batches.SampleBatch:
        """Return the samples of these predictions, in this order.

        Raises:
            NotFoundError: one was never kept.
        """
        found = []
        for prediction in predictions:
            row = self.database.row("SELECT id, segment, row FROM sample WHERE prediction = ? LIMIT 1", (prediction,))
            if row is None:
                raise NotFoundError(
                    f"prediction {prediction} was not kept", hint="only sampled predictions reach the lake"
                )
            found.append(row)
        return self._load(found, strict=True)

    def merged_histograms(self, bundle: str, after: int = 0) -> tuple[dict[str, Histogram], int, int]:
        """Return a bundle's histograms added up over all sketches after an id, the predictions they cover, and the
        last id.
        """
        rows, predictions, upto = self.sketch_rows(bundle, after)
        merged: dict[str, Histogram] = {}
        for row in rows:
            for each in row["histograms"]:
                part = Histogram(each["source"], tuple(each["counts"]), each["missing"])
                merged[part.source] = add_histograms(merged.get(part.source), part)
        return merged, predictions, upto

    def sketch_rows(self, bundle: str, after: int = 0) -> tuple[list[dict[str, Any]], int, int]:
        """Return a bundle's sketches after an id as segment rows, the predictions they cover, and the last id."""
        listed = self.database.rows(
            "SELECT id, segment, row, predictions FROM sketch WHERE bundle = ? AND id > ? ORDER BY id", (bundle, after)
        )
        predictions = sum(int(row["predictions"]) for row in listed)
        return self._rows(listed), predictions, max((int(row["id"]) for row in listed), default=after)

    def _load(self, listed: Sequence[Any], *, strict: bool = False) -> batches.SampleBatch:
        rows = self._rows(listed)
        wanted = sorted({each["sha256"] for row in rows for each in row["inputs"]})
        tensors = self._tensors(wanted)
        whole = [i for i, row in enumerate(rows) if all(each["sha256"] in tensors for each in row["inputs"])]
        if strict and len(whole) < len(rows):
            raise NotFoundError(
                "an input of the sample is not in the lake", hint="the device sent it by reference only"
            )
        shapes = Counter(batches.shape_of(rows[i]) for i in whole)
        if strict and len(shapes) > 1:
            raise DataError("samples of different shapes do not make one batch", hint="ask for one bundle's samples")
        # One device that sends nonsense must not blind the monitors of all the others: the common shape wins.
        common = shapes.most_common(1)[0][0] if shapes else None
        kept = [i for i in whole if batches.shape_of(rows[i]) == common]
        left_out = len(rows) - len(kept)
        return batches.from_rows([int(listed[i]["id"]) for i in kept], [rows[i] for i in kept], tensors, left_out)

    def _rows(self, listed: Sequence[Any]) -> list[dict[str, Any]]:
        """Return segment rows in the order listed, opening each segment once."""
        wanted: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for place, row in enumerate(listed):
            wanted[int(row["segment"])].append((place, int(row["row"])))
        rows: list[dict[str, Any]] = [{}] * len(listed)
        for segment, places in wanted.items():
            found = read_segment(self.folder, self._segment_name(segment), [number for _, number in places])
            for (place, _), row in zip(places, found, strict=True):
                rows[place] = row
        return rows

    def _tensors(self, wanted: Sequence[str]) -> dict[str, bytes]:
        listed = []
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            listed += self.database.rows(
                f"SELECT sha256, segment, row FROM tensor WHERE sha256 IN ({marks})", tuple(part)
            )
        return {row["sha256"]: row["data"] for row in self._rows(listed)}

    def _segment_name(self, segment: int) -> str:
        row = self.database.row("SELECT name FROM segment WHERE id = ?", (segment,))
        if row is None:
            raise NotFoundError(f"segment {segment} is not listed")
        return str(row["name"])

    def _fresh(self, table: str, items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Return the items not kept yet, each message once."""
        fresh: dict[tuple[str, str, int], tuple[str, Any]] = {}
        query = f"SELECT 1 FROM {table} WHERE device = ? AND boot_id = ? AND seq = ?"
        for device, record in items:
            key = (device, record.boot_id, record.seq)
            if key not in fresh and self.database.row(query, key) is None:
                fresh[key] = (device, record)
        return list(fresh.values())

    def _known_tensors(self, tensors: Iterable[str]) -> set[str]:
        return {
            key for key in tensors if self.database.row("SELECT 1 FROM tensor WHERE sha256 = ?", (key,)) is not None
        }

    def _remove_unlisted(self) -> None:
        listed = {row["name"] for row in self.database.rows("SELECT name FROM segment")}
        for path in [*self.folder.glob("*.parquet"), *self.folder.glob(".*.tmp")]:
            if path.name not in listed:
                path.unlink(missing_ok=True)


def add_histograms(left: Histogram | None, right: Histogram) -> Histogram:
    """Return the sum; a histogram with other bins than those before it (an older baseline's) is left out."""
    if left is None:
        return right
    return merge_histograms([left, right]) if len(left.counts) == len(right.counts) else left


def list_segment(connection: Any, kind: str, file: tuple[str, int], rows: int) -> int:
    """List a segment's file in the catalogue; return its number."""
    name, size_bytes = file
    cursor = connection.execute(insert("segment", "kind", "name", "rows", "size_bytes"), (kind, name, rows, size_bytes))
    return int(cursor.lastrowid)


def _move_cursor(connection: Any, feed: str, cursor: str | None) -> None:
    if cursor is not None:
        connection.execute(
            "INSERT INTO cursor VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (feed, cursor)
        )


def _where(query: batches.SampleQuery) -> tuple[str, tuple[Any, ...]]:
    """Return the condition and its parameters; every value goes in as a parameter, never as text."""
    terms, values = ["model = ?", "id > ?"], [query.model, query.after]
    for column, wanted in (("bundle", query.bundles), ("kept", [each.value for each in query.kept])):
        if wanted:
            terms.append(f"{column} IN ({','.join('?' * len(wanted))})")
            values += wanted
    for term, bound in (("time_s >= ?", query.since_s), ("time_s < ?", query.until_s)):
        if bound is not None:
            terms.append(term)
            values.append(bound)
    return " AND ".join(terms), tuple(values)
