"""Depthwise convolutions of bytes where code is dear: one loop over the taps, four channels at a time. On a processor
without wide vectors, interleaving rows (emit_depthwise_bytes.py) would cost more than it saves.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.code import Code, Tables
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Depthwise
from skerry_compiler.engines.network.quantised import requantise
from skerry_compiler.engines.network.store import store, stores
from skerry_compiler.engines.network.strips import Strip, Walk
from skerry_compiler.engines.network.tail import Place, Result, Tail

LANES = 4
WEIGHTS = """\
typedef int8_t s8x4 __attribute__((vector_size(4)));
INLINE i32x4 weights4(const int8_t *p) { s8x4 v; copy_bytes(&v, p, 4); return __builtin_convertvector(v, i32x4); }"""


class Small(Walk):
    """Byte form in as little code as possible."""

    columns = 1

    def __init__(self, op: Depthwise, tables: Tables, machine: Machine) -> None:
        super().__init__(op, Strip(0, op.y.c, LANES, 1))
        self.tail = Tail(op, tables)
        # Activations enter as they are: no dot product turns their sign.
        self.form = requantise(op, dataclasses.replace(machine, signed_dot=False), offset=self.tail.offset)
        self.tail.prove(self.form.reach)
        self.wide = -(-op.y.c // LANES) * LANES
        tables.define(WEIGHTS)
        taps = self.form.weight.reshape(-1, op.y.c)
        self.weight = tables.add(self._padded(taps), "int8")
        self.start = tables.add(self._padded(self.form.start), "int32")
        self.factor = tables.add(self._padded(self.form.factor), "float32")
        self.term = tables.add(self._padded(self.form.term), "float32")

    def _padded(self, rows: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return rows of channels filled up to whole vectors."""
        full = np.zeros((*rows.shape[:-1], self.wide), np.float64)
        full[..., : rows.shape[-1]] = rows
        return full

    def block(self, code: Code, rows: int, columns: int) -> None:
        """See Walk."""
        op, x, n = self.op, self.op.x, LANES
        kh, kw = op.weight.shape[:2]
        code.line(f"const uint8_t *p = x + row * {op.stride[0] * x.row} + column * {op.stride[1] * x.c} + c;")
        code.line(f"const int8_t *w = {self.weight} + c;")
        code.line(f"i32x{n} a = loadi{n}({self.start} + c);")
        code.line("#pragma clang loop unroll(disable) vectorize(disable)")
        code.open(f"for (int r = 0; r < {kh}; r++, p += {op.dilation[0] * x.row - kw * op.dilation[1] * x.c})")
        code.line("#pragma clang loop unroll(disable) vectorize(disable)")
        code.open(f"for (int k = 0; k < {kw}; k++, p += {op.dilation[1] * x.c}, w += {self.wide})")
        code.line(f"a += bytes{n}(p) * weights{n}(w);")
        code.close()
        code.close()
        lanes = self.lanes(n)
        real, term = self.form.real(n, "a"), f"load{n}({self.term} + c)"
        code.line(f"f32x{n} v = madd{n}({real}, load{n}({self.factor} + c), {term});")
        result = Result("v", Place("row", "column", "c"), lanes)
        if self.form.fast:
            self._byte(code, result)
            return
        self.tail.steps(code, "v", result.place, n, lanes)
        store(code, op.y, [result], n, self.tail.bounded)

    def _byte(self, code: Code, result: Result) -> None:
        """Write the short way to bytes (see quantised.py)."""
        n = LANES
        low, high = self.tail.clamps() or (0, 255)
        code.line(f"const i32x{n} b = as_int{n}(v);")
        packed = f"packlow{n}(b, b, b, b)"
        packed = f"most{4 * n}({packed}, {low})" if low > 0 else packed
        packed = f"least{4 * n}({packed}, {high})" if high < 255 else packed
        stores(code, packed, self.op.y, [result], n)
