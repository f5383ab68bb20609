"""Memory of small machines: what an operation writes may take the place of what it reads for the last time, as in vMCU
(Zheng et al., MLSys 2024). Done forwards, from the first row to the last, the output may lie below the source; done
backwards, above it; each by a distance at which nothing is overwritten that is still to be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Conv, Depthwise, Map, Op, Pool, Tensor
from skerry_compiler.engines.network.nest import plan_nest
from skerry_compiler.engines.network.tensors import ALIGNMENT_BYTES

FORWARDS, BACKWARDS = "forwards", "backwards"
Integers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """An operation's output over what it reads for the last time: for each way to go, the least distance in bytes from
    the output up to the source (forwards), or from the source up to the output (backwards).
    """

    op: Op
    apart: Mapping[str, int]

    def ways(self, source: int, output: int) -> set[str]:
        """Return the ways in which the operation may go with its source and output at these offsets."""
        distance = {FORWARDS: source - output, BACKWARDS: output - source}
        return {way for way, least in self.apart.items() if distance[way] >= least}


@dataclasses.dataclass(frozen=True, slots=True)
class _Steps:
    """Blocks of output pixels in the order in which they are done: first row and column of each, and how many."""

    row: Integers
    rows: Integers
    column: Integers
    columns: Integers

    def places(self, tensor: Tensor) -> tuple[Integers, Integers]:
        """Return where the block of each step begins and ends in a tensor of the output's form, in bytes."""
        return self.windows(tensor, (1, 1), (1, 1), (1, 1), (0, 0))

    def windows(
        self,
        tensor: Tensor,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        pads: tuple[int, int],
    ) -> tuple[Integers, Integers]:
        """Return the same for the windows of each step's pixels."""
        row, column = self.row * stride[0] - pads[0], self.column * stride[1] - pads[1]
        last_row = row + (self.rows - 1) * stride[0] + (kernel[0] - 1) * dilation[0]
        last_column = column + (self.columns - 1) * stride[1] + (kernel[1] - 1) * dilation[1]
        begin = tensor.origin + row * tensor.row + column * tensor.c
        end = tensor.origin + last_row * tensor.row + (last_column + 1) * tensor.c
        return begin * tensor.item, end * tensor.item


def pair(op: Op, x: Tensor, machine: Machine) -> Pair | None:
    """Return how an operation's output may lie over something it reads; None where they must not share memory."""
    y = op.y
    if isinstance(op, Map):
        same = all((t.h, t.w, t.c, t.halo, t.item) == (y.h, y.w, y.c, y.halo, y.item) for t in (x, op.x))
        return Pair(op, {FORWARDS: 0}) if same else None
    if not isinstance(op, (Conv, Pool)) or type(op) not in (Conv, Depthwise, Pool):
        return None
    steps = _steps(op, machine)
    reads = []
    if x is op.x:
        kernel = (op.weight.shape[0], op.weight.shape[1]) if isinstance(op, Conv) else op.kernel
        reads.append(steps.windows(x, kernel, op.stride, op.dilation, op.pads[:2]))
    for step in op.steps:
        if step.operand is x:
            if (x.h, x.w, x.c) != (y.h, y.w, y.c):
                return None
            reads.append(steps.places(x))
    written = steps.places(y)
    forwards = max(_reach(written[1], begin) for begin, _ in reads)
    backwards = max(_reach(end, written[0]) for _, end in reads)
    return Pair(op, {FORWARDS: _whole(forwards), BACKWARDS: _whole(backwards)})


def _steps(op: Conv | Pool, machine: Machine) -> _Steps:
    """Return the steps of a convolution by its blocks, of a pool or depthwise convolution by rows."""
    if isinstance(op, Conv) and not isinstance(op, Depthwise):
        nest = plan_nest(op, machine)
        height, width, rows, columns = nest.height, nest.width, nest.block.rows, nest.block.columns
    else:
        height, width, rows, columns = op.y.h, op.y.w, 1, op.y.w
    row, column = (each.ravel() for each in np.mgrid[0:height:rows, 0:width:columns])
    return _Steps(row, np.minimum(rows, height - row), column, np.minimum(columns, width - column))


def _reach(ends: Integers, begins: Integers) -> int:
    """Return by how much, at any step, the ends so far are past what begins from there on."""
    return int((np.maximum.accumulate(ends) - np.minimum.accumulate(begins[::-1])[::-1]).max())


def _whole(distance: int) -> int:
    return -(-distance // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def find(
    ops: Sequence[Op], place: Mapping[int, int], dies: Sequence[int], machine: Machine
) -> dict[tuple[int, int], Pair]:
    """Return what may share memory: numbers of a source and an output.

    Args:
        ops: in running order.
        place: the number of the memory of each tensor, by the tensor's id.
        dies: the operation that reads each memory for the last time.
        machine: what they are generated for.
    """
    found: dict[tuple[int, int], Pair] = {}
    for number, op in enumerate(ops):
        sources: dict[int, list[Tensor]] = {}
        for x in {id(t): t for t in op.reads}.values():
            sources.setdefault(place[id(x)], []).append(x)
        for source, tensors in sources.items():
            alone = dies[source] == number and len(tensors) == 1 and id(op.y) in place
            made = pair(op, tensors[0], machine) if alone else None
            if made is not None:
                found[source, place[id(op.y)]] = made
    return found
