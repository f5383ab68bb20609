"""Depthwise convolutions of bytes, four rows at a time.

Four rows of one column are interleaved so that each 32-bit lane holds four vertical neighbours of one channel; one
dot-product instruction then does a whole column of taps, and the same interleaved vector serves every kernel column
and every output row that sees these rows. The order that interleaving leaves behind is exactly undone by packing the
results.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.code import Code, Tables
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Depthwise
from skerry_compiler.engines.network.quantised import requantise
from skerry_compiler.engines.network.store import store
from skerry_compiler.engines.network.strips import Strip, Walk
from skerry_compiler.engines.network.tail import Place, Result, Tail, index


class Bytes(Walk):
    """Byte form."""

    def __init__(self, op: Depthwise, tables: Tables, machine: Machine, strip: Strip) -> None:
        super().__init__(op, strip)
        self.q, self.n = strip.elements, strip.elements // 4
        self.machine = machine
        kh, stride, dilation = op.weight.shape[0], op.stride[0], op.dilation[0]
        self.rows = 2 if dilation == 1 and stride == 1 and op.y.h > 1 else 1
        # Room for four interleaved rows. Packed pixels see no column in common: more of them only cost registers.
        columns = max(1, min(3, (machine.registers - 12) // (4 * self.rows)))
        self.columns = columns if strip.pixels == 1 else -(-columns // 2)
        self.needed = sorted({r * stride + k * dilation for r in range(self.rows) for k in range(kh)})
        self.tail = Tail(op, tables, tile=strip.pixels)
        self.form = requantise(op, machine, offset=self.tail.offset)
        self.tail.prove(self.form.reach)
        self.factor = self._table(tables, self.form.factor, "float32")
        self.term = self._table(tables, self.form.term, "float32")
        self.start = self._table(tables, self.form.start, "int32")
        self.weight, self.used = self._weights(tables)
        # Steps that are the same for every channel may as well be done in the interleaved order.
        self.free = op.y.quant is not None and all(
            s.operand is None or (isinstance(s.operand, np.ndarray) and s.operand.size == 1) for s in op.steps
        )

    def _tiled(self, row: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return one value for each element of the strip's vectors, in interleaved order: [vectors, 4 parts * n]."""
        s, q = self.strip, self.q
        wide = -(-(s.end - s.first) * s.pixels // q) * q
        full = np.zeros(wide, np.float64)
        part = np.tile(row[s.first : s.end], s.pixels)
        full[: part.size] = part
        order = [lane * 16 + part * 4 + i for part in range(4) for lane in range(q // 16) for i in range(4)]
        return full.reshape(-1, q)[:, order]

    def _table(self, tables: Tables, row: NDArray[np.generic], dtype: str) -> str:
        return tables.add(self._tiled(row).astype(dtype), dtype)

    def _weights(self, tables: Tables) -> tuple[str, dict[tuple[int, int, int], int]]:
        """Store the weights of each (output row, four input rows, kernel column) that is not all zero."""
        op, places = self.op, {}
        kh, kw = op.weight.shape[:2]
        vectors = self._tiled(np.zeros(op.y.c)).shape[0]
        parts: list[NDArray[np.int8]] = []
        for r in range(self.rows):
            for g in range(-(-len(self.needed) // 4)):
                for k in range(kw):
                    taps = np.zeros((vectors, self.q, 4), np.int8)
                    for i, row in enumerate(self.needed[4 * g : 4 * g + 4]):
                        tap, off = divmod(row - r * op.stride[0], op.dilation[0])
                        if off == 0 and 0 <= tap < kh:
                            taps[:, :, i] = self._tiled(self.form.weight[tap, k, 0])
                    if taps.any() or k == 0:
                        places[r, g, k] = len(parts)
                        parts.append(taps)
        stacked = np.stack(parts, 1)
        self.per_vector = stacked.shape[1] * self.q * 4
        return tables.add(stacked, "int8"), places

    def block(self, code: Code, rows: int, columns: int) -> None:
        """See Walk."""
        op, q, n, p = self.op, self.q, self.n, self.strip.pixels
        x = op.x
        tile = f"(c - {self.strip.first})"
        code.line(f"const uint8_t *const p = x + row * {op.stride[0] * x.row} + column * {op.stride[1] * x.c} + c;")
        code.line(f"const int8_t *const w = {self.weight} + {tile} / {q} * {self.per_vector};")
        for r in range(rows):
            for m in range(columns):
                for part in range(4):
                    code.line(f"i32x{n} a{r}_{m}_{part} = loadi{n}({self.start} + {tile} + {part * n});")
        limit = (rows - 1) * op.stride[0] + (op.weight.shape[0] - 1) * op.dilation[0]
        kw, step = op.weight.shape[1], op.stride[1] * p
        for g in range(-(-len(self.needed) // 4)):
            lines = [row if row <= limit else limit for row in self.needed[4 * g : 4 * g + 4]]
            lines += [lines[-1]] * (4 - len(lines))
            if self.needed[4 * g] > limit:
                continue
            for j in sorted({m * step + k * op.dilation[1] for m in range(columns) for k in range(kw)}):
                self._column(code, g, j, lines, rows, columns)
        self._finish(code, rows, columns)

    def _column(self, code: Code, g: int, j: int, lines: list[int], rows: int, columns: int) -> None:
        """Write the interleaving of four rows of one column and the dot products that use it."""
        op, q, n = self.op, self.q, self.n
        step = op.stride[1] * self.strip.pixels
        code.open("")
        for i, row in enumerate(lines):
            source = f"p + {row * op.x.row + j * op.x.c}"
            code.line(f"const u8x{q} r{i} = {self.taken(f'u8x{q}', f'loadq{q}', source, q)};")
        code.line(
            f"const u8x{q} l0 = lo8_{q}(r0, r1), h0 = hi8_{q}(r0, r1), l1 = lo8_{q}(r2, r3), h1 = hi8_{q}(r2, r3);"
        )
        for part, text in enumerate(("lo16_{q}(l0, l1)", "hi16_{q}(l0, l1)", "lo16_{q}(h0, h1)", "hi16_{q}(h0, h1)")):
            flip = " ^ (int32_t)0x80808080" if self.machine.signed_dot else ""
            code.line(f"const i32x{n} t{part} = {text.format(q=q)}{flip};")
        for m in range(columns):
            tap, off = divmod(j - m * step, op.dilation[1])
            for r in range(rows):
                slot = self.used.get((r, g, tap)) if off == 0 else None
                if slot is None:
                    continue
                for part in range(4):
                    a = f"a{r}_{m}_{part}"
                    code.line(
                        f"{a} = {self.machine.dot}{n}({a}, t{part}, loadi{n}(w + {slot * q * 4 + part * n * 4}));"
                    )
        code.close()

    def _finish(self, code: Code, rows: int, columns: int) -> None:
        op, n, p = self.op, self.n, self.strip.pixels
        tile = f"(c - {self.strip.first})"
        for r in range(rows):
            for m in range(columns):
                place = Place(f"row + {r}" if r else "row", f"column + {m * p}" if m else "column", "c")
                where = f"y + {index(op.y, place, (True, True, True))}"
                names = []
                for part in range(4):
                    a, offset = f"a{r}_{m}_{part}", f"{tile} + {part * n}"
                    real = self.form.real(n, a)
                    names.append(f"v{r}_{m}_{part}")
                    term = f"load{n}({self.term} + {offset})"
                    code.line(f"f32x{n} {names[-1]} = madd{n}({real}, load{n}({self.factor} + {offset}), {term});")
                if self.form.fast or self.free:
                    for name in [] if self.form.fast else names:
                        self.tail.steps(code, name, place, n)
                    low = self.form.fast or self.tail.bounded
                    values = ", ".join(f"{'as_int' if low else 'whole'}{n}({v})" for v in names)
                    packed = f"{'packlowlanes' if low else 'packlanes'}{n}({values})"
                    self._store_bytes(code, where, packed, self.form.fast)
                else:
                    self._natural(code, names, place, where)

    def _store_bytes(self, code: Code, where: str, packed: str, clamp: bool) -> None:
        q = self.q
        low, high = (self.tail.clamps() if clamp else None) or (0, 255)
        packed = f"most{q}({packed}, {low})" if low > 0 else packed
        packed = f"least{q}({packed}, {high})" if high < 255 else packed
        lanes = self.lanes(q)
        code.line(f"partq{q}({where}, {packed}, {lanes});" if lanes else f"storeq{q}({where}, {packed});")

    def _natural(self, code: Code, names: list[str], place: Place, where: str) -> None:
        """Bring the vectors into channel order first: the steps or a float output need it."""
        n, y = self.n, self.op.y
        results = []
        for j in range(4):  # vector j of the output holds elements j*n .. j*n+n-1
            pieces = []
            for e in range(j * n, (j + 1) * n, 4):
                pieces.append((e % 16 // 4, e // 16))
            name = f"{names[0]}_{j}"
            values = ", ".join(f"{names[part]}[{lane * 4 + i}]" for part, lane in pieces for i in range(4))
            code.line(f"f32x{n} {name} = {{{values}}};")
            at_place = Place(place.row, place.column, f"c + {j * n}" if j else "c")
            lanes = self.lanes(self.q)
            left = f"{y.c} - (c + {j * n})" if lanes else ""
            self.tail.steps(code, name, at_place, n, left)
            results.append(Result(name, at_place, left))
        if any(r.lanes for r in results):
            for r in results:
                code.open(f"if ({r.lanes} > 0)")
                store(code, y, [r], n, self.tail.bounded)
                code.close()
        else:
            store(code, y, results, n, self.tail.bounded)
