"""Integer arithmetic of byte convolutions: weights, starting sums, and the way back from 32 bits.

The fast way back uses that 1.5 * 2^23 + k has k in its low bits.
A sum that starts at the bit pattern of that number
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
from skerry_compiler.engines.network.tail import BYTE_LIMIT, MAGIC, unit_of

MAGIC_BITS = 0x4B400000
SUM_LIMIT = (1 << 22) - 2


@dataclasses.dataclass(slots=True)
class Requantised:
    """Weights s8[kh, kw, ci, co]; for each output channel the start of the sum, and factor and term of the output.

    `magic`: sums start at the magic number: their bits are a float. `fast`: the output is one multiply-add whose low
    bits are the byte; otherwise output = real(sum) * factor + term.
    """

    weight: NDArray[np.int8]
    start: NDArray[np.int64]
    factor: NDArray[np.float64]
    term: NDArray[np.float64]
    magic: bool
    fast: bool
    reach: float

    def real(self, n: int, name: str) -> str:
        """Return the C expression of a vector of sums as floats."""
        return f"as_real{n}({name})" if self.magic else f"real{n}({name})"


def quantise_weights(
    weight: NDArray[np.float32], given: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return symmetric bytes and the scale of each output channel: the given one, or what its largest weight asks."""
    flat = weight.reshape(-1, weight.shape[3]).astype(np.float64)
    scale = np.maximum(np.abs(flat).max(0), 1e-12) / 127 if given is None else given
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def requantise(op: Conv, machine: Machine, channels: slice = slice(None), offset: float = 0.0) -> Requantised:
    """Return the integer form of a convolution whose input is bytes; `offset` is added to its bias."""
    assert op.x.quant is not None
    q, scale = quantise_weights(op.weight[..., channels], None if op.scale is None else op.scale[channels])
    bias = op.bias[channels].astype(np.float64)
    flat = q.reshape(-1, q.shape[3]).astype(np.int64)
    shift = 128 if machine.signed_dot else 0
    zero = op.x.quant.zero
    y = op.y.quant
    unit = unit_of(op)
    factor = op.x.quant.scale * scale / unit
    clamps_only = y is not None and all(s.name in ("relu", "clip") for s in op.steps)
    up, down = np.where(flat > 0, flat, 0).sum(0), np.where(flat < 0, flat, 0).sum(0)

    def reach(whole: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far from zero a sum with this start can get."""
        high, low = whole + up * (255 - shift) - down * shift, whole + down * (255 - shift) - up * shift
        return np.asarray(np.maximum(np.abs(high), np.abs(low)), np.float64)

    start = -(zero - shift) * flat.sum(0)
    if clamps_only and y is not None:
        term = MAGIC + y.zero - MAGIC * _single(factor)
        whole = start + np.rint(bias / unit / factor) + np.rint((term - _single(term)) / factor)
        if reach(whole).max() < SUM_LIMIT and (reach(whole) * factor).max() < BYTE_LIMIT:
            return Requantised(q, (whole + MAGIC_BITS).astype(np.int64), factor, term, True, True, 0.0)
    term = (bias + offset) / unit
    limit = float((reach(start) * factor + np.abs(term)).max())
    if reach(start).max() < SUM_LIMIT:
        term = term - MAGIC * _single(factor)
        whole = start + np.rint((term - _single(term)) / factor)
        return Requantised(q, (whole + MAGIC_BITS).astype(np.int64), factor, term, True, False, limit)
    return Requantised(q, start, factor, term, False, False, limit)


def _single(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers rounded to float32."""
    return values.astype(np.float32).astype(np.float64)
