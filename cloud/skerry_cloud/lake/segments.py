"""Parquet segments: the one place that knows pyarrow. A segment is written once, durably, and named by its content."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skerry_cloud.errors import DataError
from skerry_cloud.files import write_durably

_TENSOR_HEAD = [("name", pa.string()), ("dtype", pa.string()), ("shape", pa.list_(pa.int64()))]
_MESSAGE = [("device", pa.string()), ("boot_id", pa.string()), ("seq", pa.int64())]
_QUANTILES = pa.struct(
    [
        ("source", pa.string()),
        ("count", pa.int64()),
        ("least", pa.float64()),
        ("greatest", pa.float64()),
        ("levels", pa.list_(pa.list_(pa.float64()))),
        ("k", pa.int64()),
    ]
)
_FREQUENT = pa.struct(
    [
        ("source", pa.string()),
        ("count", pa.int64()),
        ("capacity", pa.int64()),
        ("counters", pa.map_(pa.string(), pa.int64())),
        ("short", pa.int64()),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "tensor": pa.schema([("sha256", pa.string()), ("data", pa.binary())]),
    "sample": pa.schema(
        [
            *_MESSAGE,
            ("time_s", pa.float64()),
            ("prediction", pa.string()),
            ("model", pa.string()),
            ("version", pa.string()),
            ("bundle", pa.string()),
            ("variant", pa.string()),
            ("kept", pa.string()),
            ("weight", pa.float64()),
            ("confidence", pa.float64()),
            ("capture", pa.string()),  # as the message said; one that came later stands in the catalogue alone
            ("inputs", pa.list_(pa.struct([*_TENSOR_HEAD, ("sha256", pa.string())]))),
            ("outputs", pa.list_(pa.struct([*_TENSOR_HEAD, ("data", pa.binary())]))),
        ]
    ),
    "sketch": pa.schema(
        [
            *_MESSAGE,
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("model", pa.string()),
            ("bundle", pa.string()),
            ("variant", pa.string()),
            ("predictions", pa.int64()),
            (
                "histograms",
                pa.list_(
                    pa.struct([("source", pa.string()), ("counts", pa.list_(pa.int64())), ("missing", pa.int64())])
                ),
            ),
            (
                "moments",
                pa.list_(
                    pa.struct(
                        [
                            ("source", pa.string()),
                            ("count", pa.int64()),
                            ("mean", pa.float64()),
                            ("m2", pa.float64()),
                            ("least", pa.float64()),
                            ("greatest", pa.float64()),
                        ]
                    )
                ),
            ),
            ("quantiles", pa.list_(_QUANTILES)),
            ("frequent", pa.list_(_FREQUENT)),
        ]
    ),
}


def write_segment(folder: Path, kind: str, rows: Sequence[dict[str, Any]]) -> tuple[str, int]:
    """Write rows as one segment; return its file name and size in bytes. The same rows make the same file.

    Raises:
        DataError: a row does not fit the schema of its kind, or the disk refuses.
    """
    try:
        table = pa.Table.from_pylist(list(rows), schema=SCHEMAS[kind])
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
    except pa.ArrowException as error:
        raise DataError(f"rows do not make a {kind} segment: {error}") from error
    data = buffer.getvalue()
    name = f"{kind}-{hashlib.sha256(data).hexdigest()[:32]}.parquet"
    try:
        write_durably(folder / name, data)
    except OSError as error:
        raise DataError(
            f"cannot write {folder / name}: {error.strerror}", hint="free some space, then go on"
        ) from error
    return name, len(data)


def read_segment(folder: Path, name: str, rows: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Return rows of a segment by their numbers, in the order asked for (all rows where `rows` is None).

    Raises:
        DataError: the file is missing or no Parquet.
    """
    try:
        table = pq.read_table(folder / name)
        wanted = table if rows is None else table.take(pa.array(rows, pa.int64()))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"segment {name} cannot be read: {error}", hint="restore the lake's folder") from error
    found: list[dict[str, Any]] = wanted.to_pylist()
    return found
