"""What the lake gives back: samples as numpy arrays, one row a sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_contracts.sample import Kept
from skerry_contracts.tensor import DType

Array = npt.NDArray[Any]

NUMPY_TYPE: dict[DType, str] = {
    DType.BOOL: "?",
    DType.UINT8: "u1",
    DType.UINT16: "<u2",
    DType.UINT32: "<u4",
    DType.UINT64: "<u8",
    DType.INT8: "i1",
    DType.INT16: "<i2",
    DType.INT32: "<i4",
    DType.INT64: "<i8",
    DType.FP16: "<f2",
    DType.FP32: "<f4",
    DType.FP64: "<f8",
}


@dataclasses.dataclass(frozen=True, slots=True)
class SampleQuery:
    """Which samples. `after` is a lake id (arrival order), times are the device's own; `newest` takes the last
    `limit` of them.
    """

    model: str
    bundles: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    after: int = 0
    since_s: float | None = None
    until_s: float | None = None
    limit: int = 100_000
    newest: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class SampleBatch:
    """n samples in the order of arrival. `inputs` and `outputs` map a tensor's name to [n, ...] (a leading batch of 1
    is dropped).

    `input_keys[i]` names the content of all inputs of row i: equal keys, equal inputs. `confidence` is NaN where none
    was given; `left_out` counts samples found but not given (input missing, odd shape).
    """

    ids: npt.NDArray[np.int64]
    predictions: tuple[str, ...]
    bundles: tuple[str, ...]
    kept: tuple[Kept, ...]
    time_s: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    input_keys: tuple[str, ...]
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.predictions)

    def take(self, rows: Sequence[int] | Array) -> SampleBatch:
        """Return the rows with these numbers, in this order."""
        numbers = np.asarray(rows, dtype=np.int64)
        chosen = numbers.tolist()
        return SampleBatch(
            self.ids[numbers],
            tuple(self.predictions[i] for i in chosen),
            tuple(self.bundles[i] for i in chosen),
            tuple(self.kept[i] for i in chosen),
            self.time_s[numbers],
            self.weight[numbers],
            self.confidence[numbers],
            tuple(self.input_keys[i] for i in chosen),
            {name: array[numbers] for name, array in self.inputs.items()},
            {name: array[numbers] for name, array in self.outputs.items()},
        )

    def finite(self) -> SampleBatch:
        """Return the batch without rows that have an input which is no finite number: one broken sensor must not stop
        what all the others' samples are for.
        """
        whole = np.ones(len(self), bool)
        for array in self.inputs.values():
            whole &= np.isfinite(array).reshape(len(self), -1).all(axis=1)
        return self if whole.all() else self.take(np.flatnonzero(whole))

    def distinct(self) -> SampleBatch:
        """Return the batch with inputs seen before left out (a camera that stands still proves nothing by repeating
        itself).
        """
        first: dict[str, int] = {}
        for number, key in enumerate(self.input_keys):
            first.setdefault(key, number)
        return self.take(sorted(first.values()))


def shape_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return names, types and shapes of a segment row's tensors: rows with equal ones fit one batch."""
    return tuple(
        (side, each["name"], each["dtype"], tuple(each["shape"]))
        for side in ("inputs", "outputs")
        for each in row[side]
    )


def from_rows(
    ids: Sequence[int], rows: Sequence[dict[str, Any]], tensors: dict[str, bytes], left_out: int = 0
) -> SampleBatch:
    """Return a batch from segment rows of one shape and the content of their inputs."""
    return SampleBatch(
        np.array(ids, dtype=np.int64),
        tuple(row["prediction"] for row in rows),
        tuple(row["bundle"] for row in rows),
        tuple(Kept(row["kept"]) for row in rows),
        np.array([row["time_s"] for row in rows], dtype=np.float64),
        np.array([row["weight"] for row in rows], dtype=np.float64),
        np.array([np.nan if row["confidence"] is None else row["confidence"] for row in rows], dtype=np.float64),
        tuple("+".join(each["sha256"] for each in row["inputs"]) for row in rows),
        _stack([row["inputs"] for row in rows], lambda each: tensors[each["sha256"]]),
        _stack([row["outputs"] for row in rows], lambda each: each["data"]),
        left_out,
    )


def _stack(rows: Sequence[Sequence[dict[str, Any]]], content: Callable[[dict[str, Any]], bytes]) -> dict[str, Array]:
    stacked = {}
    for place, head in enumerate(rows[0] if rows else ()):
        data = b"".join(content(row[place]) for row in rows)
        shape = tuple(head["shape"])
        inner = shape[1:] if shape[:1] == (1,) else shape
        stacked[head["name"]] = np.frombuffer(data, dtype=NUMPY_TYPE[DType(head["dtype"])]).reshape(len(rows), *inner)
    return stacked
