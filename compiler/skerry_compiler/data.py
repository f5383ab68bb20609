"""Calibration, evaluation and input data: .npz files to checked rows of bytes, in the order in which a signature
lists tensors.
"""

from __future__ import annotations

import dataclasses
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skerry_compiler.errors import DataError
from skerry_contracts.tensor import DType, TensorSpec

LABELS = "labels"
MAX_FILE_BYTES = 4 << 30
NUMPY: dict[DType, type[np.generic]] = {
    DType.BOOL: np.bool_,
    DType.UINT8: np.uint8,
    DType.UINT16: np.uint16,
    DType.UINT32: np.uint32,
    DType.UINT64: np.uint64,
    DType.INT8: np.int8,
    DType.INT16: np.int16,
    DType.INT32: np.int32,
    DType.INT64: np.int64,
    DType.FP16: np.float16,
    DType.FP32: np.float32,
    DType.FP64: np.float64,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows for a model: each tensor as an array whose first extent counts rows; labels where the file has them.
    A model without inputs has one row of nothing. Rows that were `made_up` prove nothing about accuracy.
    """

    tensors: tuple[np.ndarray, ...]
    labels: np.ndarray | None = None
    made_up: bool = False

    def __len__(self) -> int:
        return len(self.tensors[0]) if self.tensors else 1

    def head(self, count: int) -> Rows:
        """Return the first rows."""
        labels = None if self.labels is None else self.labels[:count]
        return Rows(tuple(each[:count] for each in self.tensors), labels, self.made_up)

    def pick(self, places: Sequence[int]) -> Rows:
        """Return some rows."""
        labels = None if self.labels is None else self.labels[list(places)]
        return Rows(tuple(each[list(places)] for each in self.tensors), labels, self.made_up)

    def to_bytes(self) -> bytes:
        """Return row after row, each the tensors' bytes in order."""
        flat = [np.ascontiguousarray(each).reshape(len(each), each.size // max(1, len(each))) for each in self.tensors]
        parts = [each.view(np.uint8) for each in flat if each.size]
        return np.concatenate(parts, axis=1).tobytes() if parts else b""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file.

    Raises:
        DataError: not such a file, larger than it may be once unpacked, empty, or it holds pickled objects.
    """
    hint = "save it with numpy.savez; text labels as a numpy array of text"
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise DataError(f"cannot read {path.name}: it is no regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
        if _is_bare(path):
            raise DataError(
                f"{path.name} is one bare array", hint="save it with numpy.savez, named as the model's input"
            )
        with zipfile.ZipFile(path) as file:
            _refuse_lies(file, path.name)
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except OSError as error:
        raise DataError(f"cannot read {path.name}: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, KeyError) as error:
        raise DataError(f"{path.name} is not an .npz file of plain arrays", hint=hint) from error
    if not arrays:
        raise DataError(f"{path.name} holds no arrays")
    return arrays


def _is_bare(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX


def _refuse_lies(file: zipfile.ZipFile, name: str) -> None:
    """Refuse arrays that are more, once unpacked, than they say or than may be: a thousandth of it can lie in the file.

    Raises:
        DataError: too much.
        ValueError: no array, or one of another size than its own header says.
    """
    if sum(each.file_size for each in file.infolist()) > MAX_FILE_BYTES:
        raise DataError(f"{name} is larger than {MAX_FILE_BYTES} bytes once unpacked")
    for each in file.infolist():
        with file.open(each) as entry:
            version = np.lib.format.read_magic(entry)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(entry)
            if kind.hasobject or min(shape, default=0) < 0:
                raise ValueError("objects, or less than nothing")
            if entry.tell() + kind.itemsize * math.prod(shape) != each.file_size:
                raise ValueError("not as long as its header says")


def inputs_of(arrays: Mapping[str, np.ndarray], specs: Sequence[TensorSpec], origin: str) -> Rows:
    """Return a file's arrays as rows for a model.

    An array named as the input, or the only array for an only input, with one row more than the input has axes (or
    the input's own first axis, where that is 1, as the rows). Other number types are converted to the input's.

    Raises:
        DataError: missing, superfluous, misshapen, of different lengths, or no rows at all.
    """
    given = {name: array for name, array in arrays.items() if name != LABELS}
    if len(specs) == 1 and len(given) == 1:
        given = {specs[0].name: next(iter(given.values()))}
    missing = [spec.name for spec in specs if spec.name not in given]
    if missing:
        raise DataError(
            f"{origin} has no array for the input {missing[0]!r:.80}",
            hint=f"it has {', '.join(sorted(given)) or 'none'}; name the arrays as the model's inputs",
        )
    tensors = tuple(_tensor(given[spec.name], spec, origin) for spec in specs)
    count = len(tensors[0]) if tensors else 1
    if any(len(each) != count for each in tensors):
        raise DataError(f"{origin}: inputs have {', '.join(str(len(each)) for each in tensors)} rows")
    labels = arrays.get(LABELS)
    if labels is not None and labels.shape != (count,):
        raise DataError(f"{origin}: labels are {list(labels.shape)}, {count} rows expected", hint="one label a row")
    return Rows(tensors, labels)


def outputs_of(content: bytes, specs: Sequence[TensorSpec], count: int) -> tuple[np.ndarray, ...]:
    """Return the tensors in rows of output bytes; the first extent counts rows.

    Raises:
        DataError: not that many rows.
    """
    row = sum(spec.size_bytes for spec in specs)
    if len(content) != row * count:
        raise DataError(f"{len(content)} bytes of output, {row * count} expected")
    table = np.frombuffer(content, np.uint8).reshape(count, row) if row else np.empty((count, 0), np.uint8)
    found, at = [], 0
    for spec in specs:
        part = table[:, at : at + spec.size_bytes].tobytes()
        found.append(np.frombuffer(part, NUMPY[spec.dtype]).reshape(count, *spec.shape))
        at += spec.size_bytes
    return tuple(found)


def refuse_nan(answers: Sequence[np.ndarray], specs: Sequence[TensorSpec], origin: str) -> None:
    """Refuse data on which the model itself has no answer: neither ranges nor a baseline can be taken from it.

    Raises:
        DataError: some answers are NaN; says how many rows.
    """
    for answer, spec in zip(answers, specs, strict=True):
        bad = int(np.isnan(answer).reshape(len(answer), -1).any(axis=1).sum())
        if bad:
            raise DataError(
                f"{origin}: the model's {spec.name!r:.80} is NaN on {bad} of {len(answer)} rows",
                hint="remove the rows that hold NaN or are out of range",
            )


def synthetic(specs: Sequence[TensorSpec], count: int) -> Rows:
    """Return made-up rows, the same every time, where no data was given: enough to compare answers, not to judge
    accuracy.
    """
    random = np.random.default_rng(20_261_123)
    return Rows(
        tuple(
            random.normal(size=(count, *spec.shape)).astype(NUMPY[spec.dtype])
            if spec.dtype in (DType.FP32, DType.FP64, DType.FP16)
            else random.integers(0, 2, size=(count, *spec.shape)).astype(NUMPY[spec.dtype])
            for spec in specs
        ),
        made_up=True,
    )


def _tensor(array: np.ndarray, spec: TensorSpec, origin: str) -> np.ndarray:
    given = list(array.shape)
    if array.ndim == len(spec.shape) and spec.shape[:1] == (1,):
        array = array[:, None]
    if array.shape[1:] != spec.shape:
        wanted = ["rows", *map(str, spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape)]
        raise DataError(f"{origin}: {spec.name!r:.80} is {given}, [{', '.join(wanted)}] expected")
    if not len(array):
        raise DataError(f"{origin}: {spec.name!r:.80} has no rows", hint="a few dozen rows of real data are enough")
    kind = np.dtype(NUMPY[spec.dtype])
    if array.dtype == kind:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "fiub" or (kind.kind in "iub" and array.dtype.kind == "f"):
        raise DataError(f"{origin}: {spec.name!r:.80} is {array.dtype}, {kind} expected")
    return np.ascontiguousarray(array.astype(kind))
