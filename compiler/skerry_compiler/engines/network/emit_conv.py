"""Convolutions and dense layers as one loop nest.

A convolution is kh rows of kw * ci contiguous values. A block of pixels times channel vectors is held in named
variables; the weights lie in the order in which the blocks read them. Bytes come in groups of four for the
dot-product instructions.
"""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Conv, Tensor
from skerry_compiler.engines.network.halves import rounded
from skerry_compiler.engines.network.nest import Nest, pack, plan_nest
from skerry_compiler.engines.network.quantised import requantise
from skerry_compiler.engines.network.sums import Sums
from skerry_compiler.engines.network.tail import Tail
from skerry_compiler.engines.network.tensors import ALIGNMENT_BYTES

HALVES = "(uint16_t *)(void *)scratch"


def emit(op: Conv, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a convolution."""
    nest = plan_nest(op, machine)
    op = nest.op
    code = Code(op.way)
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
    co = op.weight.shape[3] // op.groups
    tail = Tail(op, tables)
    packed = requantise(op, machine, offset=tail.offset) if op.x.quant else None
    weight = packed.weight if packed else op.weight
    panels = np.stack([pack(weight[..., g * co : (g + 1) * co], nest, b.vectors) for g in range(op.groups)])
    per_block = len(nest.taps) * nest.steps * nest.group * b.vectors * n
    panel = panels[0].size
    group = op.groups > 1
    offset = f"block * {per_block}{f' + group * {panel}' if group else ''}"
    weights = f"{tables.add(rounded(panels) if nest.halves else panels, nest.weight_types[0])} + {offset}"
    sums = Sums(nest, tables, tail, packed, co)
    blocks = -(-co // n) // b.vectors
    if op.way:
        _in_order(code, nest, machine, sums, weights, blocks)
        return
    if group:
        opens["group"]("group", op.groups)
    if nest.halves and code.parts == 1:
        _rounded_source(code, op.x, tables, n)
    _pointers(code, nest)
    opens["block"]("block", blocks)
    code.line(f"const int c = block * {b.vectors * n};")
    opens["row"]("row", nest.height, b.rows)
    for start, end, columns in _columns(code, nest):
        opens["column"]("column", end, columns, start)
        _block(code, nest, machine, sums, weights, columns)
        code.close()
    for _ in range(3 if group else 2):
        code.close()


def _in_order(code: Code, nest: Nest, machine: Machine, sums: Sums, weights: str, blocks: int) -> None:
    """Write the loops with pixels outermost: all channels of some, then those of the next. A convolution whose output
    lies over its source goes so (see overlap.py).
    """
    op = nest.op
    code.loop("row", nest.height, nest.block.rows)
    for start, end, columns in _columns(code, nest):
        code.loop("column", end, columns, start)
        if op.groups > 1:
            code.loop("group", op.groups)
        _pointers(code, nest)
        code.loop("block", blocks)
        code.line(f"const int c = block * {nest.block.vectors * nest.n};")
        _block(code, nest, machine, sums, weights, columns)
        for _ in range(3 if op.groups > 1 else 2):
            code.close()
    code.close()


def _columns(code: Code, nest: Nest) -> list[tuple[int, int, int]]:
    """Return the loops over columns: first, end, and how many at a time."""
    columns = nest.block.columns
    full, rest = divmod(nest.width, columns)
    return code.spans((0, full * columns, columns), (full * columns, nest.width, rest))


def _pointers(code: Code, nest: Nest) -> None:
    """Write where a group's channels of source and output begin."""
    op, x, y = nest.op, nest.op.x, nest.op.y
    ci, co = op.weight.shape[2], op.weight.shape[3] // op.groups
    start = x.origin - op.pads[0] * x.row - op.pads[1] * x.c
    group = op.groups > 1
    source = ("halves" if code.parts == 1 else HALVES) if nest.halves else at(x)
    code.line(f"const {nest.ctype} *const x = {source} + {start}{f' + group * {ci}' if group else ''};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin}{f' + group * {co}' if group else ''};")


def _block(code: Code, nest: Nest, machine: Machine, sums: Sums, weights: str, columns: int) -> None:
    """Write one block of pixels and channels."""
    op, x = nest.op, nest.op.x
    code.line(f"const {nest.ctype} *const p = x + row * {op.stride[0] * x.row} + column * {op.stride[1] * x.c};")
    code.line(f"const {nest.weight_types[1]} *w = {weights};")
    pixels = [(r, q) for r in range(nest.block.rows) for q in range(columns)]
    sums.begin(code, pixels)
    _taps(code, nest, pixels, machine)
    sums.finish(code, pixels)


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
