"""Networks in bytes on different processors, compared bit by bit: a part of benchmarks/targets.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from benchmarks import compiler_edge
from numpy.typing import NDArray

from skerry_compiler.emulators import catalogue as emulators
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.errors import LimitError
from skerry_compiler.proof.references import references
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec
from skerry_targets import shelf

FIRST = "x86-64-v2"
# A board for each kind of processor that code is generated for.
BOARDS = (
    "x86-64-v3", "x86-64-v4", "i686", "arm64", "arm64-dotprod", "arm64-i8mm", "armhf", "beaglebone-black",
    "raspberry-pi-zero", "riscv64", "cortex-m0plus", "cortex-m4", "cortex-m55", "wasm32-wasi",
)  # fmt: skip
ROWS = 8
NETWORKS = (*compiler_edge.TINY, "facemesh")  # to emulate ultraface on all of them takes minutes
Say = Callable[[str], None]
Rows = NDArray[np.float32]


def bits(work: Path, say: Say) -> dict[str, float]:
    """Return how many numbers of the answers differ in a bit from those on the plainest x86-64, and how many there
    are. Boards that nothing here emulates, and networks that do not fit one, are left out.
    """
    differing = compared = 0
    for name, model, rows in _networks(work):
        first = _answers(model, rows, FIRST)
        seen = []
        for board in BOARDS:
            if not emulators.available(shelf.get(board)):
                say(f"nothing here runs {board}")
                continue
            try:
                found = _answers(model, rows, board)
            except LimitError:
                continue
            wrong = int((found != first).sum())
            seen.append(f"{board} {wrong}")
            differing, compared = differing + wrong, compared + found.size
        say(f"{name}: {', '.join(seen)} of {first.size}")
    return {"int8_bits_differing": differing, "int8_bits_compared": compared}


def _networks(work: Path) -> Iterator[tuple[str, onnx.ModelProto, Rows]]:
    """Yield the reference models of `skerry targets prove` and, where they are, the trained networks."""
    for reference in references():
        if reference.in_bytes:
            yield reference.name, reference.model, reference.rows[:, None]
    for name in (each for each in NETWORKS if each in compiler_edge.here()):
        model, calibration, _ = compiler_edge.build(name, work)
        (rows,) = np.load(calibration).values()
        yield name, onnx.load(model), rows[:ROWS, None]


def _answers(model: onnx.ModelProto, rows: Rows, board: str) -> NDArray[np.uint32]:
    """Return the bits of a board's answers."""
    profile, network = shelf.get(board), network_of(model)
    ((source, shape),) = network.inputs
    ranges = calibrate(network, model, [{source: row.reshape(shape)} for row in rows], "minmax")
    made = generate(model, machine_of(profile), ranges=ranges)
    library = build.artifact(made.c, Machine.of(profile), made.weights)
    specs = tuple(TensorSpec(f"y{i}", DType.FP32, tuple(each)) for i, (_, each) in enumerate(network.outputs))
    signature = Signature((TensorSpec("x", DType.FP32, tuple(shape)),), specs)
    content = emulators.outputs(library, profile, signature, np.ascontiguousarray(rows, np.float32).tobytes())
    found = np.frombuffer(content, np.uint32)
    assert found.size == len(rows) * sum(math.prod(spec.shape) for spec in specs)
    return found
