"""Convolutions and dense layers as one loop nest.

A convolution is kh rows of kw * ci contiguous values. A block of pixels times channel vectors is held in named
variables; the weights lie in the order in which the blocks read them. Bytes come in groups of four for the
dot-product instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal, number
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Conv, Tensor
from skerry_compiler.engines.network.halves import rounded
from skerry_compiler.engines.network.nest import Nest, pack, plan_nest
from skerry_compiler.engines.network.quantised import Requantised, requantise
from skerry_compiler.engines.network.store import store, stores
from skerry_compiler.engines.network.tail import Place, Result, Tail
from skerry_compiler.engines.network.tensors import ALIGNMENT_BYTES

HALVES = "(uint16_t *)(void *)scratch"


def emit(op: Conv, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a convolution."""
    nest = plan_nest(op, machine)
    op = nest.op
    code = Code()
    kh, kw = op.weight.shape[:2]
    x, y = op.x, op.y
    b = nest.block
    code.line(
        f"/* {literal(op.label)}: {'int8' if x.quant else 'float'} {kh}x{kw} / {op.stride[0]}, "
        f"{x.h}x{x.w}x{x.c} -> {y.h}x{y.w}x{y.c}; "
        f"block {b.rows}x{b.columns} pixels, {b.vectors}x{nest.n} channels */"
    )
    where, parts = _shared(nest, tables)
    if nest.halves and parts > 1:
        code.function(f"{name}_round", parts)
        _rounded_source(code, x, tables, machine.lanes)
        code.close()
    code.function(name, parts)
    halo(code, y)
    _groups(code, nest, tables, machine, where)
    code.close()
    return code


def _shared(nest: Nest, tables: Tables) -> tuple[str, int]:
    """Return which loop parts share, and how many parts there are. Loops that come out even are as good as each other;
    then parts share whatever takes less memory, pixels or weights.
    """
    op, b, threads = nest.op, nest.block, tables.threads
    vectors = -(-op.weight.shape[3] // op.groups // nest.n)
    rounds = {
        "group": op.groups,
        "row": nest.height // b.rows,
        "column": nest.width // b.columns,
        "block": vectors // b.vectors,
    }
    names = ["group", "row", "column", "block"]
    if op.weight.size > op.x.elements:
        names.insert(1, names.pop())
    where = max(names, key=lambda name: min(0.9, rounds[name] / (-(-rounds[name] // threads) * threads)))
    return where, tables.parts(rounds[where])


def _groups(code: Code, nest: Nest, tables: Tables, machine: Machine, where: str) -> None:
    """Write the loops over groups of channels and over blocks; parts share the loop over `where`."""
    opens = {name: code.split if name == where else code.loop for name in ("group", "block", "row", "column")}
    op, n, b = nest.op, nest.n, nest.block
    x, y = op.x, op.y
    ci, co = op.weight.shape[2], op.weight.shape[3] // op.groups
    tail = Tail(op, tables)
    packed = requantise(op, machine, offset=tail.offset) if x.quant else None
    weight = packed.weight if packed else op.weight
    panels = np.stack([pack(weight[..., g * co : (g + 1) * co], nest, b.vectors) for g in range(op.groups)])
    per_block = len(nest.taps) * nest.steps * nest.group * b.vectors * n
    panel = panels[0].size
    pointer = tables.add(rounded(panels) if nest.halves else panels, nest.weight_types[0])
    group = op.groups > 1
    if group:
        opens["group"]("group", op.groups)
    start = x.origin - op.pads[0] * x.row - op.pads[1] * x.c
    if nest.halves and code.parts == 1:
        _rounded_source(code, x, tables, n)
    source = ("halves" if code.parts == 1 else HALVES) if nest.halves else at(x)
    code.line(f"const {nest.ctype} *const x = {source} + {start}{f' + group * {ci}' if group else ''};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin}{f' + group * {co}' if group else ''};")
    sums = _Sums(nest, tables, tail, packed, co)
    vectors = -(-co // n)
    opens["block"]("block", vectors // b.vectors)
    code.line(f"const int c = block * {b.vectors * n};")
    opens["row"]("row", nest.height, b.rows)
    full, rest = divmod(nest.width, b.columns)
    for start_column, end, columns in ((0, full * b.columns, b.columns), (full * b.columns, nest.width, rest)):
        if end > start_column:
            opens["column"]("column", end, columns, start_column)
            code.line(
                f"const {nest.ctype} *const p = x + row * {op.stride[0] * x.row} + column * {op.stride[1] * x.c};"
            )
            offset = f"block * {per_block}{f' + group * {panel}' if group else ''}"
            code.line(f"const {nest.weight_types[1]} *w = {pointer} + {offset};")
            pixels = [(r, q) for r in range(b.rows) for q in range(columns)]
            sums.begin(code, pixels)
            _taps(code, nest, pixels, machine)
            sums.finish(code, pixels)
            code.close()
    for _ in range(3 if group else 2):
        code.close()


def _rounded_source(code: Code, x: Tensor, tables: Tables, n: int) -> None:
    """Write the rounding of a tensor with its border to bfloat16, into scratch memory."""
    used = (x.h + x.halo[0] + x.halo[2]) * x.row
    count = -(-used // n) * n
    spare = 2 * (count - used) + ALIGNMENT_BYTES
    tables.reserve(2 * used + spare)
    code.line(f"uint16_t *const halves = {HALVES};")
    if code.parts > 1:
        code.split("i", count, n)
    else:
        code.open(f"for (int i = 0; i < {count}; i += {n})")
    code.line(f"to_halves{n}(halves + i, load{n}({at(x)} + i));")
    code.close()
    if code.parts > 1:
        code.open(f"if (part == {code.parts - 1})")
    code.line("/* the last pair may read past the end, and zero times no number is no number */")
    code.line(f"fill_bytes(halves + {used}, 0, {spare});")
    if code.parts > 1:
        code.close()


def _taps(code: Code, nest: Nest, pixels: list[tuple[int, int]], machine: Machine) -> None:
    """Write the loops over taps and steps: the multiply-adds."""
    op, n, x, nr = nest.op, nest.n, nest.op.x, nest.block.vectors
    code.loop("tap", len(nest.taps))
    kw = op.weight.shape[1]
    flip = " ^ (int32_t)0x80808080" if machine.signed_dot else ""
    if len(nest.taps) == op.weight.shape[0]:
        offset = f"tap * {op.dilation[0] * x.row}"
    else:
        offset = f"tap / {kw} * {op.dilation[0] * x.row} + tap % {kw} * {op.dilation[1] * x.c}"
    code.line(f"const {nest.ctype} *r = p + {offset};")
    ks = nest.chains
    code.line("#pragma clang loop unroll(disable) vectorize(disable)")
    code.open(f"for (int k = 0; k < {nest.steps // ks}; k++, r += {ks * nest.group}, w += {ks * nest.group * nr * n})")
    for q in range(ks):
        for j in range(nr):
            if x.quant:
                code.line(f"const i32x{n} w{j}_{q} = loadi{n}(w + {(q * nr + j) * n * 4});")
            elif nest.halves:
                code.line(f"const i32x{n} w{j}_{q} = loadi{n}(w + {(q * nr + j) * n * 2});")
            else:
                code.line(f"const f32x{n} w{j}_{q} = load{n}(w + {(q * nr + j) * n});")
        for m, (row, column) in enumerate(pixels):
            where = row * op.stride[0] * x.row + column * op.stride[1] * x.c + q * nest.group
            for j in range(nr):
                a = f"a{m}_{j}_{q}"
                if x.quant:
                    code.line(f"{a} = {machine.dot}{n}({a}, word{n}(r + {where}){flip}, w{j}_{q});")
                elif nest.halves:
                    code.line(f"{a} = pairs{n}({a}, word{n}((const uint8_t *)(r + {where})), w{j}_{q});")
                else:
                    code.line(f"{a} += w{j}_{q} * r[{where}];")
    code.close()
    code.close()


class _Sums:
    """Writes how accumulators begin and how they become outputs."""

    def __init__(self, nest: Nest, tables: Tables, tail: Tail, packed: Requantised | None, co: int) -> None:
        self.nest, self.tail, self.packed, self.co = nest, tail, packed, co
        self.tables = tables
        if packed:
            tail.prove(packed.reach)
            self.start = self._table(packed.start, "int32")
            self.factor = self._table(packed.factor, "float32")
            self.term = self._table(packed.term, "float32")
        else:
            self.start = self._table(nest.op.bias / tail.unit, "float32")

    def _table(self, row: NDArray[np.generic], dtype: str) -> str:
        """Store one value for each output channel, each group padded to whole vectors; returns where a group's are."""
        n, groups = self.nest.n, self.nest.op.groups
        wide = -(-self.co // n) * n
        padded = np.zeros(groups * wide + 4 * n, np.float64)
        padded[: groups * wide].reshape(groups, wide)[:, : self.co] = row.reshape(groups, self.co)
        pointer = self.tables.add(padded, dtype)
        return pointer if groups == 1 else f"{pointer} + group * {wide}"

    def begin(self, code: Code, pixels: list[tuple[int, int]]) -> None:
        """Write the declarations of the accumulators."""
        n = self.nest.n
        for m in range(len(pixels)):
            for j in range(self.nest.block.vectors):
                for q in range(self.nest.chains):
                    if self.packed:
                        value = f"loadi{n}({self.start} + c + {j * n})" if q == 0 else f"(i32x{n}){{}}"
                        code.line(f"i32x{n} a{m}_{j}_{q} = {value};")
                    else:
                        value = (
                            f"load{n}({self.start} + c + {j * n})"
                            if q == 0 and self.tail.unit == 1.0
                            else f"(f32x{n}){{}}"
                        )
                        code.line(f"f32x{n} a{m}_{j}_{q} = {value};")

    def finish(self, code: Code, pixels: list[tuple[int, int]]) -> None:
        """Write what follows the last multiply-add."""
        n, nr, y = self.nest.n, self.nest.block.vectors, self.nest.op.y
        results = []
        for m, (row, column) in enumerate(pixels):
            for j in range(nr):
                for q in range(1, self.nest.chains):
                    code.line(f"a{m}_{j}_0 += a{m}_{j}_{q};")
                channel = "c" if j == 0 else f"c + {j * n}"
                place = Place(_plus("row", row), _plus("column", column), channel)
                lanes = f"{self.co} - ({channel})" if self.co % n and j == nr - 1 else ""
                results.append(Result(f"a{m}_{j}_0", place, lanes))
        if self.packed and self.packed.fast:
            self._bytes(code, results)
            return
        finished = []
        for r in results:
            v = f"v{r.name[1:]}"
            channel = r.place.channel
            if self.packed:
                term = f"load{n}({self.term} + {channel})"
                real = self.packed.real(n, r.name)
                code.line(f"f32x{n} {v} = madd{n}({real}, load{n}({self.factor} + {channel}), {term});")
            elif self.tail.unit != 1.0:
                scale = f"all{n}({number(1 / self.tail.unit)})"
                code.line(f"f32x{n} {v} = {r.name} * {scale} + load{n}({self.start} + {channel});")
            else:
                v = r.name
            whole = channel if self.nest.op.groups == 1 else f"{channel} + group * {self.co}"
            place = Place(r.place.row, r.place.column, whole)
            self.tail.steps(code, v, place, n, r.lanes)
            finished.append(Result(v, r.place, r.lanes))
        store(code, y, finished, n, self.tail.bounded)

    def _bytes(self, code: Code, results: list[Result]) -> None:
        """Write the short way to bytes: one multiply-add for each vector leaves the rounded byte in the low bits."""
        n, y = self.nest.n, self.nest.op.y
        assert self.packed is not None
        low, high = self.tail.clamps() or (0, 255)
        for start in range(0, len(results), 4):
            group = results[start : start + 4]
            names = []
            for r in group:
                names.append(f"b{r.name[1:]}")
                term = f"load{n}({self.term} + {r.place.channel})"
                value = f"madd{n}(as_real{n}({r.name}), load{n}({self.factor} + {r.place.channel}), {term})"
                code.line(f"const i32x{n} {names[-1]} = as_int{n}({value});")
            packed = f"packlow{n}({', '.join(names + [names[-1]] * (4 - len(names)))})"
            packed = f"most{4 * n}({packed}, {low})" if low > 0 else packed
            packed = f"least{4 * n}({packed}, {high})" if high < 255 else packed
            stores(code, packed, y, group, n)


def _plus(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base
