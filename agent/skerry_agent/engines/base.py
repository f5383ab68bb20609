"""What every engine is given and what it gives back.

A process that serves a model imports little: each megabyte here is paid once per model on the device. So this file
and the engines keep to plain classes and ctypes, and read contracts' records by their attributes without importing
them (dataclasses, typing and hashlib together cost more memory than the native engine itself).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from skerry_contracts.bundle import Signature, Variant

# Bytes of one element by its name in the Open Inference Protocol, as in skerry_contracts.tensor (a test compares the
# two).
ITEM_BYTES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
}


class EngineError(Exception):
    """An engine cannot load or run a variant. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Spec:
    """One input or output: name, element type, shape, and what they make in bytes."""

    __slots__ = ("dtype", "name", "shape", "size_bytes")

    def __init__(self, name: str, dtype: str, shape: Sequence[int]) -> None:
        if dtype not in ITEM_BYTES:
            raise EngineError(f"tensor {name!r:.80} has the unknown type {dtype!r:.40}")
        self.name = name
        self.dtype = str(dtype)
        self.shape = tuple(shape)
        self.size_bytes = ITEM_BYTES[self.dtype]
        for extent in self.shape:
            self.size_bytes *= extent


MOST_THREADS = 64


def threads_wanted(options: Mapping[str, str]) -> int:
    """Return how many threads a variant was made for, 0 where its option makes no sense.

    >>> threads_wanted({"threads": "4"}), threads_wanted({}), threads_wanted({"threads": "all"})
    (4, 1, 0)
    """
    wanted = options.get("threads", "1")
    sound = wanted.isascii() and wanted.isdigit() and len(wanted) < 3
    return int(wanted) if sound and int(wanted) <= MOST_THREADS else 0


class Job:
    """Everything an engine needs to load one variant. `paths` maps a role (library, model) to the file that holds the
    blob.

    `threads` may share one inference: as many as the device allows, or as the variant was made for (its option
    `threads`) and there are cores for.
    """

    __slots__ = ("engine", "inputs", "options", "outputs", "paths", "threads")

    def __init__(
        self,
        engine: str,
        paths: Mapping[str, str],
        inputs: Sequence[Spec],
        outputs: Sequence[Spec],
        options: Mapping[str, str],
        threads: int = 1,
    ) -> None:
        self.engine = engine
        self.paths = dict(paths)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.options = dict(options)
        self.threads = max(threads, min(threads_wanted(self.options), len(os.sched_getaffinity(0))))

    @classmethod
    def of(cls, variant: Variant, paths: Mapping[str, Path], signature: Signature, threads: int = 1) -> Job:
        """Return the job that contracts' records describe."""
        inputs, outputs = (
            [Spec(each.name, each.dtype.value, each.shape) for each in specs]
            for specs in (signature.inputs, signature.outputs)
        )
        return cls(
            variant.engine, {role: str(path) for role, path in paths.items()}, inputs, outputs, variant.options, threads
        )

    @classmethod
    def from_plain(
        cls, variant: Mapping[str, Any], paths: Mapping[str, str], signature: Mapping[str, Any], threads: int = 1
    ) -> Job:
        """Return the job that a manifest's plain JSON describes: for processes that import no contracts."""
        inputs, outputs = (
            [Spec(each["name"], each["dtype"], each["shape"]) for each in signature[side]]
            for side in ("inputs", "outputs")
        )
        return cls(variant["engine"], paths, inputs, outputs, variant.get("options", {}), threads)

    def path(self, role: str) -> str:
        """Return the file of one role.

        Raises:
            EngineError: the variant has no such blob.
        """
        if role not in self.paths:
            raise EngineError(f"the variant has no blob for {role!r}, which the engine {self.engine} needs")
        return self.paths[role]


class Engine:
    """A loaded model. Buffers are C-contiguous bytes of exactly the sizes that the signature gives, in its order.

    `bind` fixes the buffers once and returns the call that reads the inputs and writes the outputs in place: the fast
    path for a worker whose tensors live in shared memory. `run` is bind and call in one. Not thread-safe: one process
    serves one model.
    """

    def __init__(self, job: Job) -> None:
        self.inputs = job.inputs
        self.outputs = job.outputs

    def bind(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> Callable[[], None]:
        """Return a call that runs the model on these buffers; the buffers must stay as they are, their content may
        change.

        Raises:
            EngineError: the number or size of buffers is not the signature's; the call itself raises it when the
            model fails.
        """
        raise NotImplementedError

    def run(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> None:
        """Run the model once: read `inputs`, write `outputs` in place.

        Raises:
            EngineError: see `bind`.
        """
        self.bind(inputs, outputs)()

    def close(self) -> None:
        """Give back what the engine holds. The calls that `bind` returned must not be used any more."""
        raise NotImplementedError


def addresses(specs: Sequence[Spec], views: Sequence[memoryview], *, writable: bool) -> tuple[list[int], list[object]]:
    """Return each buffer's address and the objects that keep the memory alive.

    Raises:
        EngineError: number, size, layout or writability is not what the specs ask for.
    """
    if len(views) != len(specs):
        raise EngineError(f"{len(views)} buffers given, {len(specs)} expected")
    found: list[int] = []
    keep: list[object] = []
    for spec, view in zip(specs, views, strict=True):
        if view.nbytes != spec.size_bytes or not view.c_contiguous:
            raise EngineError(f"{spec.name!r}: {view.nbytes} bytes given, {spec.size_bytes} contiguous ones expected")
        if view.readonly:
            if writable:
                raise EngineError(f"{spec.name!r}: the output buffer cannot be written")
            copy = (ctypes.c_char * spec.size_bytes).from_buffer_copy(
                view
            )  # ctypes gives no address of read-only memory
            keep.append(copy)
            found.append(ctypes.addressof(copy))
            continue
        flat = view.cast("B") if view.ndim != 1 or view.format != "B" else view
        held = (ctypes.c_char * spec.size_bytes).from_buffer(flat)
        keep.append(held)
        found.append(ctypes.addressof(held))
    return found, keep
