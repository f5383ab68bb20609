"""Integer arithmetic of byte convolutions: weights, starting sums, and the way back from 32 bits.

The fast way back uses that 1.5 * 2^23 + k has k in its low bits. A sum that starts at the bit pattern of that number
is the float 1.5 * 2^23 + sum without any conversion; one multiply-add by the requantising factor then ends at 1.5 *
2^23 + byte, rounded to even. It is exact as long as sums stay below 2^22 and bytes before saturation below 2^15; both
bounds are checked here, from the weights, for every channel.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Conv
from skerry_compiler.engines.network.tail import HOMOGENEOUS

MAGIC = 12582912.0  # 1.5 * 2^23
MAGIC_BITS = 0x4B400000
SUM_LIMIT = (1 << 22) - 2
BYTE_LIMIT = 32000


@dataclasses.dataclass(slots=True)
class Requantised:
    """Weights s8[kh, kw, ci, co] and, for each output channel, the start of the sum, and factor and term of the output.

    `fast`: start and term are those of the magic number. Otherwise output = real(sum) * factor + term.
    """

    weight: NDArray[np.int8]
    start: NDArray[np.int64]
    factor: NDArray[np.float64]
    term: NDArray[np.float64]
    fast: bool


def quantise_weights(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return symmetric bytes and the scale of each output channel."""
    flat = weight.reshape(-1, weight.shape[3]).astype(np.float64)
    scale = np.maximum(np.abs(flat).max(0), 1e-12) / 127
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def requantise(op: Conv, machine: Machine, channels: slice = slice(None)) -> Requantised:
    """Return the integer form of a convolution whose input is bytes."""
    assert op.x.quant is not None
    q, scale = quantise_weights(op.weight[..., channels])
    bias = op.bias[channels].astype(np.float64)
    flat = q.reshape(-1, q.shape[3]).astype(np.int64)
    shift = 128 if machine.signed_dot else 0
    zero = op.x.quant.zero
    y = op.y.quant
    linear = all(s.name in HOMOGENEOUS for s in op.steps)
    unit = y.scale if y is not None and linear else 1.0
    factor = op.x.quant.scale * scale / unit
    clamps_only = y is not None and all(s.name in ("relu", "clip") for s in op.steps)
    start = -(zero - shift) * flat.sum(0)
    if clamps_only and y is not None:
        term = np.float64(MAGIC) + y.zero - MAGIC * factor.astype(np.float32).astype(np.float64)
        error = term - term.astype(np.float32).astype(np.float64)
        whole = start + np.rint(bias / unit / factor) + np.rint(error / factor)
        up, down = np.where(flat > 0, flat, 0).sum(0), np.where(flat < 0, flat, 0).sum(0)
        high, low = whole + up * (255 - shift) - down * shift, whole + down * (255 - shift) - up * shift
        reach = np.maximum(np.abs(high), np.abs(low))
        if reach.max() < SUM_LIMIT and (reach * factor).max() < BYTE_LIMIT:
            return Requantised(q, (whole + MAGIC_BITS).astype(np.int64), factor, term, True)
    term = bias / unit
    return Requantised(q, start, factor, term, False)
