"""Winograd's minimal filtering: 3x3 convolutions with a quarter of the multiplications.

An output tile of 4x4 pixels comes from 6x6 input pixels through three steps: the input tile is transformed, its 36
values are multiplied by transformed weights (36 products of matrices, over input channels), and the products are
transformed back. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, F(4x4, 3x3). Rounding
errors grow a few times, weights four times; so it is a candidate of its own, and only layers gain for which the
estimate says so.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Array, Conv, Depthwise, Network

TILE = 4
POINTS = TILE + 2
PRODUCTS = POINTS * POINTS
WEIGHTS = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
TRANSFORM_CYCLES = 180  # of one tile of one vector of channels, there or back, measured
BYTES_A_CYCLE = 8  # from the caches behind the second
GAIN = 0.8  # the share of the direct convolution's estimate that must not be exceeded


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Winograd(Conv):
    """A 3x3 convolution of stride 1 in tiles."""

    @property
    def tiles(self) -> tuple[int, int]:
        """How many tiles there are downwards and across."""
        return -(-self.y.h // TILE), -(-self.y.w // TILE)


def choose(network: Network, machine: Machine, share: float = GAIN) -> int:
    """Turn convolutions into Winograd's form whose estimate is below this share of the direct one; returns how many."""
    count = 0
    for i, op in enumerate(network.ops):
        if isinstance(op, Conv) and fits(op, machine) and estimate(op, machine) < share:
            fields = {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}
            network.ops[i] = Winograd(**fields)
            count += 1
    return count


def fits(op: Conv, machine: Machine) -> bool:
    """Whether the form exists for a convolution."""
    plain = op.groups == 1 and op.stride == (1, 1) and op.dilation == (1, 1) and not isinstance(op, Depthwise)
    wide = op.weight.shape[2] >= machine.lanes and op.weight.shape[3] >= machine.lanes
    return plain and wide and op.weight.shape[:2] == (3, 3) and not op.int8 and op.x.quant is None


def estimate(op: Conv, machine: Machine) -> float:
    """Return the estimated time as a share of the direct convolution's."""
    ci, co = op.weight.shape[2:]
    n = machine.lanes
    inside, outside = -(-ci // n), -(-co // n)
    tiles = -(-op.y.h // TILE) * -(-op.y.w // TILE)
    direct = op.y.h * op.y.w * outside * 9 * ci
    products = tiles * PRODUCTS * ci * outside
    transforms = tiles * TRANSFORM_CYCLES * (inside + outside)
    beyond = max(0, PRODUCTS * ci * co * 4 - machine.l2_bytes // 2) / BYTES_A_CYCLE
    return float((products + transforms + beyond) / direct)


def transformed(weight: Array) -> Array:
    """Return f32[36, ci, co] of weights f32[3, 3, ci, co], computed in double precision."""
    wide = np.einsum("ay,yxio,bx->abio", WEIGHTS, weight.astype(np.float64), WEIGHTS)
    result: Array = wide.reshape(PRODUCTS, *weight.shape[2:]).astype(np.float32)
    return result


def needed(op: Winograd) -> tuple[int, int, int, int]:
    """Return the halo that whole tiles read."""
    down, across = op.tiles
    bottom = down * TILE + 2 - op.pads[0] - op.x.h
    right = across * TILE + 2 - op.pads[1] - op.x.w
    return op.pads[0], op.pads[1], max(0, bottom), max(0, right)
