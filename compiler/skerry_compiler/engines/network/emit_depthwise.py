"""Depthwise convolutions; the float form: one vector of channels at a time, each loaded column used by all that see
it.
"""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit_depthwise_bytes import Bytes
from skerry_compiler.engines.network.emit_depthwise_small import Small
from skerry_compiler.engines.network.graph import Depthwise, Tensor
from skerry_compiler.engines.network.store import store
from skerry_compiler.engines.network.strips import Strip, Walk, strips, write
from skerry_compiler.engines.network.tail import Place, Result, Tail


def emit(op: Depthwise, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a depthwise convolution."""
    x, y = op.x, op.y
    code = Code(op.way)
    kh, kw = op.weight.shape[:2]
    code.line(
        f"/* {literal(op.label)}: depthwise {'int8' if x.quant else 'float'} {kh}x{kw} / {op.stride[0]}, "
        f"{x.h}x{x.w}x{x.c} -> {y.h}x{y.w} */"
    )
    whole = all(
        not isinstance(s.operand, Tensor) or (s.operand.h, s.operand.w, s.operand.c) == (y.h, y.w, y.c)
        for s in op.steps
    )
    whole = whole and all(not isinstance(s.operand, np.ndarray) or s.operand.shape[:2] == (1, 1) for s in op.steps)
    packs = whole and (op.stride[1] == 1 or (op.stride[1] == 2 and x.c % 4 == 0))
    walks: list[Walk]
    if x.quant and machine.compact:
        walks = [Small(op, tables, machine)]
    elif x.quant:
        cut = strips(x.c, 4 * machine.lanes, 16, packs and y.w * x.c >= 4 * machine.lanes)
        walks = [Bytes(op, tables, machine, strip) for strip in cut]
    else:
        cut = strips(x.c, machine.lanes, 4, packs and y.w * x.c >= machine.lanes)
        walks = [_Floats(op, tables, strip) for strip in cut]
    code.function(name, tables.parts(y.h // walks[0].rows))
    halo(code, y)
    code.line(f"const {x.ctype} *const x = {at(x)} + {x.origin - op.pads[0] * x.row - op.pads[1] * x.c};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")
    write(code, walks, machine)
    code.close()
    return code


class _Floats(Walk):
    """Float form: taps as named vectors, each loaded column used by all outputs that see it."""

    def __init__(self, op: Depthwise, tables: Tables, strip: Strip) -> None:
        super().__init__(op, strip)
        n, p = strip.elements, strip.pixels
        self.n = n
        self.tail = Tail(op, tables, tile=p)
        spare = np.zeros((op.weight.shape[0] * op.weight.shape[1], n))
        taps = np.tile(op.weight.reshape(spare.shape[0], -1), (1, p))
        self.stride = taps.shape[1] + n
        self.weight = tables.add(np.concatenate([taps, spare], 1) / self.tail.unit, "float32")
        self.bias = tables.add(np.concatenate([np.tile(op.bias, p), np.zeros(n)]) / self.tail.unit, "float32")

    def block(self, code: Code, rows: int, columns: int) -> None:
        """See Walk."""
        op, n, p = self.op, self.n, self.strip.pixels
        x = op.x
        kh, kw = op.weight.shape[:2]
        code.line(f"const float *const p = x + row * {op.stride[0] * x.row} + column * {op.stride[1] * x.c} + c;")
        for m in range(columns):
            code.line(f"f32x{n} a{m} = load{n}({self.bias} + c);")
        for ky in range(kh):
            for j in range((columns - 1) * op.stride[1] * p + (kw - 1) * op.dilation[1] + 1):
                hits = []
                for m in range(columns):
                    tap, off = divmod(j - m * op.stride[1] * p, op.dilation[1])
                    if off == 0 and 0 <= tap < kw:
                        hits.append((m, tap))
                if hits:
                    code.open("")
                    source = f"p + {ky * op.dilation[0] * x.row + j * x.c}"
                    code.line(f"const f32x{n} v = {self.taken(f'f32x{n}', f'load{n}', source, n)};")
                    for m, tap in hits:
                        code.line(f"a{m} += v * load{n}({self.weight} + {(ky * kw + tap) * self.stride} + c);")
                    code.close()
        results = []
        for m in range(columns):
            place = Place("row", f"column + {m * p}" if m else "column", "c")
            self.tail.steps(code, f"a{m}", place, n, self.lanes(n))
            results.append(Result(f"a{m}", place, self.lanes(n)))
        store(code, op.y, results, n, self.tail.bounded)
