"""Training data as one .npz file, named by its content: what a model was trained, judged and calibrated on."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_cloud.errors import DataError

Array = npt.NDArray[Any]
REFERENCE_ROWS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """n rows to train on, m to judge by, r to compare the world with.

    `x` f32[n, ...], `y` int[n] (index into `labels`), `x_evaluation`, `y_evaluation` the same with m rows, never
    trained on; `reference` f32[r, ...]: inputs of the world the model is made for, which monitors compare later
    inputs with; `origin` int[n]: 0 for rows of the first data, 1 for rows that came back from devices;
    `origin_evaluation` int[m] likewise.
    """

    x: Array
    y: Array
    x_evaluation: Array
    y_evaluation: Array
    reference: Array
    labels: tuple[str, ...]
    origin: Array
    origin_evaluation: Array

    def __post_init__(self) -> None:
        if len(self.x) == 0 or len(self.x_evaluation) == 0 or len(self.reference) == 0:
            raise DataError("a dataset needs rows to train on, to judge by and to compare with")
        for x, y, origin in (
            (self.x, self.y, self.origin),
            (self.x_evaluation, self.y_evaluation, self.origin_evaluation),
        ):
            if not len(x) == len(y) == len(origin) or x.shape[1:] != self.x.shape[1:]:
                raise DataError("x, y and origin must have one entry a row, and all rows one shape")
            if y.min() < 0 or y.max() >= len(self.labels):
                raise DataError(f"y must be an index into the {len(self.labels)} labels")
            if not np.isfinite(x).all():
                raise DataError("x holds values that are no numbers", hint="clean the data first")
        if self.reference.shape[1:] != self.x.shape[1:] or not np.isfinite(self.reference).all():
            raise DataError("the reference rows do not fit x")


_ARRAYS = ("x", "y", "x_evaluation", "y_evaluation", "reference", "origin", "origin_evaluation")


def to_bytes(dataset: Dataset) -> bytes:
    """Return the dataset as .npz bytes; equal datasets give equal bytes (numpy writes no times)."""
    buffer = io.BytesIO()
    arrays = {name: np.ascontiguousarray(getattr(dataset, name)) for name in _ARRAYS}
    np.savez(buffer, labels=np.array(dataset.labels), **arrays)  # type: ignore[arg-type]  # labels is an array of text
    return buffer.getvalue()


def from_bytes(data: bytes) -> Dataset:
    """Return the dataset that .npz bytes hold.

    Raises:
        DataError: no .npz, an array is missing, or they do not fit each other.
    """
    arrays = _open(io.BytesIO(data), "the dataset")
    try:
        return Dataset(labels=_labels(arrays), **{name: arrays[name] for name in _ARRAYS})
    except KeyError as error:
        raise DataError(f"the dataset has no array {error.args[0]}") from error


def load_first(path: Path, seed: int) -> Dataset:
    """Return a project's first dataset: `x`, `y`, `labels`, and `x_evaluation`, `y_evaluation` (a fifth split off
    where missing).

    The reference is all rows (at most `REFERENCE_ROWS`), unless the file has an array `reference`: monitors of inputs
    ask no model, so it does not matter that the model was trained on them.

    Raises:
        DataError: the file is missing, no .npz, or its arrays do not fit each other.
    """
    arrays = _open(path, str(path))
    try:
        x, y = np.asarray(arrays["x"], np.float32), np.asarray(arrays["y"]).astype(np.int64)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: x (numbers) and y (whole numbers) are needed: {error}") from error
    if len(x) != len(y) or len(x) < 10:
        raise DataError(f"{path}: {len(x)} rows of x, {len(y)} of y; equal and at least 10 are needed")
    if "x_evaluation" in arrays and "y_evaluation" in arrays:
        held_x = np.asarray(arrays["x_evaluation"], np.float32)
        held_y = np.asarray(arrays["y_evaluation"]).astype(np.int64)
    else:
        order = np.random.default_rng(seed).permutation(len(x))
        held, kept = order[: len(x) // 5], order[len(x) // 5 :]
        held_x, held_y, x, y = x[held], y[held], x[kept], y[kept]
    everything = np.concatenate([held_x, x])[:REFERENCE_ROWS]
    reference = np.asarray(arrays.get("reference", everything), np.float32)
    labels = _labels(arrays)
    first, held = np.zeros(len(x), np.int8), np.zeros(len(held_x), np.int8)
    return Dataset(x, y, held_x, held_y, reference, labels, first, held)


def _open(source: Path | io.BytesIO, name: str) -> dict[str, Array]:
    try:
        with np.load(source, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise DataError(f"{name} is no .npz of plain arrays: {error}", hint="write it with numpy.savez") from error


def _labels(arrays: dict[str, Array]) -> tuple[str, ...]:
    try:
        labels = tuple(str(each) for each in arrays["labels"].tolist())
    except KeyError as error:
        raise DataError("the dataset has no array labels", hint="labels names the classes in the order of y") from error
    if len(set(labels)) != len(labels) or not labels or not all(labels):
        raise DataError("labels must be distinct texts, at least one")
    return labels
