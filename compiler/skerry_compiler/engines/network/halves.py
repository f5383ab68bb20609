"""Convolutions and dense layers of bfloat16: float32 rounded to its upper half, two of which are multiplied and added
to a float32 sum by one instruction, at twice the rate of float32.

Activations stay float32 in memory and are rounded into scratch memory by each layer; so only layers gain that use each
of them often, and a network with such layers is a candidate of its own, judged by the gate as bytes are.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Conv, Network

USES = 16  # multiplications by each activation, of a vector of channels, below which rounding it does not pay


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Halves(Conv):
    """A convolution whose products are of bfloat16."""


def choose(network: Network, machine: Machine) -> int:
    """Turn convolutions into products of bfloat16 where the processor multiplies them and it pays; returns how many."""
    count = 0
    for i, op in enumerate(network.ops):
        if machine.halves and type(op) is Conv and op.x.quant is None and not op.int8 and _pays(op, machine):
            fields = {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}
            network.ops[i] = Halves(**fields)
            count += 1
    return count


def _pays(op: Conv, machine: Machine) -> bool:
    """Whether there are enough products for each activation, and nothing that rounding or pairing could spoil."""
    products = op.y.h * op.y.w * op.weight[..., 0].size * -(-op.weight.shape[3] // machine.lanes)
    often = products >= USES * op.x.elements / machine.lanes
    finite = bool((np.abs(op.weight) < 3e38).all())
    kh, kw, ci, co = op.weight.shape
    # The last pair of an odd number of values holds a neighbour's, and zero times no number is no number.
    run = kw * ci if op.dilation[1] == 1 else ci
    apart = run % 2 == 0 or (kh, op.y.h, op.y.w) == (1, 1, 1)
    return op.groups == 1 and co >= machine.lanes and often and finite and apart


def rounded(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return float32 rounded to the nearest bfloat16, ties to even, as bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
