"""Many generated networks in one shared library: the C compiler starts once, and the prelude is read once.

For tests and benchmarks that go through hundreds of small graphs; what ships is always a library of its own.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine as Processor
from skerry_compiler.engines.network import functions
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.tensors import ALIGNMENT_BYTES
from skerry_compiler.engines.network.vectors import prelude

START = "#define PUBLIC"  # here a source stops being the same for all
NAMES = re.compile(r"\b(op_\d+\w*|arena|skerry_abi|skerry_sizes|skerry_run)\b")
FAST_BUILD = ("-O1",)


def library_of(
    sources: Sequence[Source], machine: Machine, processor: Processor, flags: Sequence[str] = FAST_BUILD
) -> bytes:
    """Return a library in which network i is called run_i.

    Raises:
        ToolError: the compiler refuses the code.
    """
    weights, parts = bytearray(), []
    for i, source in enumerate(sources):
        at = len(weights)
        weights += source.weights + b"\0" * (-len(source.weights) % ALIGNMENT_BYTES)
        text = START + source.c.split(START, 1)[1]
        text = NAMES.sub(lambda m, i=i: f"{m[1]}_{i}", text)  # type: ignore[misc]
        text = text.replace("#define weights skerry_weights", f"#define weights (skerry_weights + {at})")
        parts.append(f"#undef weights\n#undef PUBLIC\n{text}")
    head = prelude(machine) + functions.TYPES + functions.FAULT + functions.used("\n".join(parts))
    return build.artifact("\n".join([head, *parts]), processor, bytes(weights), flags)


class Bulk:
    """An opened library of many networks."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def run(
        self, number: int, inputs: Sequence[NDArray[Any]], outputs: Sequence[tuple[tuple[int, ...], Any]]
    ) -> list[NDArray[Any]]:
        """Return what a network gives for inputs; `outputs` are the shapes and types to expect.

        Raises:
            RuntimeError: the network reports a fault, or expects other sizes.
        """
        sources = [np.ascontiguousarray(i) for i in inputs]
        results = [np.zeros(shape, dtype) for shape, dtype in outputs]
        counts = [len(sources), len(results), *(a.nbytes for a in sources + results)]
        found = (ctypes.c_uint64 * len(counts)).in_dll(self._library, f"skerry_sizes_{number}")
        if list(found) != counts:
            raise RuntimeError(f"made for other tensors: {list(found)}, not {counts}")
        given = (ctypes.c_void_p * len(sources))(*(s.ctypes.data for s in sources))
        taken = (ctypes.c_void_p * len(results))(*(r.ctypes.data for r in results))
        status = getattr(self._library, f"skerry_run_{number}")(given, taken)
        if status:
            raise RuntimeError(f"fault {status}")
        return results
