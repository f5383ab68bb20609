"""The loops of a convolution or dense layer, decided: what one step takes, the block, and the order of the weights."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.cost import Block, Machine, best_block
from skerry_compiler.engines.network.graph import Conv, Tensor
from skerry_compiler.engines.network.halves import Halves


@dataclasses.dataclass(slots=True)
class Nest:
    """One convolution (or one group of one) as the emitter sees it."""

    op: Conv
    n: int  # lanes
    height: int
    width: int
    taps: list[tuple[int, int]]
    run: int  # contiguous values at each tap
    group: int  # values an accumulator takes in one step
    steps: int  # steps at each tap
    block: Block
    flat: bool

    @property
    def halves(self) -> bool:
        """Whether products are of bfloat16."""
        return isinstance(self.op, Halves)

    @property
    def ctype(self) -> str:
        """The C type of the source's elements, as the kernel reads them."""
        return "uint16_t" if self.halves else self.op.x.ctype

    @property
    def chains(self) -> int:
        """How many independent sums each accumulator is split into, so that short blocks hide the latency."""
        ks = max(1, min(4, 8 // (self.block.rows * self.block.columns * self.block.vectors)))
        while self.steps % ks:
            ks -= 1
        return ks

    @property
    def weight_types(self) -> tuple[str, str]:
        """The types of the packed weights: numpy's and C's name."""
        if self.halves:
            return "uint16", "uint16_t"
        return ("int8", "int8_t") if self.op.x.quant else ("float32", "float")


def plan_nest(op: Conv, machine: Machine) -> Nest:
    """Decide the loops of a convolution."""
    op = _joined(op)
    x, y = op.x, op.y
    kh, kw, ci, co = op.weight.shape
    per_group = co // op.groups
    n = machine.lanes
    while n > 4 and n >= 2 * per_group:
        n //= 2
    vectors = -(-per_group // n)
    flat = _flat(op)
    height, width = (1, y.h * y.w) if flat else (y.h, y.w)
    whole = op.dilation[1] == 1 and op.groups == 1
    taps = [(r, 0) for r in range(kh)] if whole else [(r, c) for r in range(kh) for c in range(kw)]
    run = kw * ci if whole else ci
    size = 4 if x.quant else 2 if isinstance(op, Halves) else 1
    steps = -(-run // size)
    block = best_block(height, width, vectors, steps * len(taps), machine, op.stride[1] * x.c * x.item, bool(x.quant))
    return Nest(op, n, height, width, taps, run, size, steps, block, flat)


def _flat(op: Conv) -> bool:
    """Whether all pixels can be walked as one row: 1x1 without gaps anywhere."""
    tensors = [op.x, op.y, *(s.operand for s in op.steps if isinstance(s.operand, Tensor))]
    plain = op.weight.shape[:2] == (1, 1) and op.stride == (1, 1) and not any(op.pads)
    same = all((t.h, t.w) == (op.y.h, op.y.w) for t in tensors)
    constant = all(s.operand.shape[:2] == (1, 1) for s in op.steps if isinstance(s.operand, np.ndarray))
    return plain and same and constant and all(t.dense for t in tensors) and op.y.h > 1


def _joined(op: Conv) -> Conv:
    """Join groups of one or two input channels where bytes are taken by fours anyway; zeros fill the rest."""
    inside, outside = op.weight.shape[2], op.weight.shape[3] // op.groups
    many = next((m for m in (4, 2) if op.groups % m == 0 and m * inside <= 4), 1) if op.x.quant else 1
    if many == 1:
        return op
    weight = np.zeros((*op.weight.shape[:2], many * inside, op.weight.shape[3]), np.float32)
    for channel in range(op.weight.shape[3]):
        first = channel // outside % many * inside
        weight[:, :, first : first + inside, channel] = op.weight[..., channel]
    return dataclasses.replace(op, weight=weight, groups=op.groups // many)


def pack(weight: NDArray[np.generic], nest: Nest, vectors: int) -> NDArray[np.generic]:
    """Return weights [kh, kw, ci, co] in reading order: block, tap, step, vector, lane, value."""
    n, group, steps = nest.n, nest.group, nest.steps
    co = weight.shape[3]
    wide = -(-co // n) * n
    p = np.zeros((len(nest.taps), steps * group, wide), weight.dtype)
    p[:, : nest.run, :co] = weight.reshape(len(nest.taps), nest.run, co)
    p = p.reshape(len(nest.taps), steps, group, wide // (vectors * n), vectors, n)
    return np.ascontiguousarray(p.transpose(3, 0, 1, 4, 5, 2))
