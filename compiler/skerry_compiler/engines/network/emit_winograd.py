"""Convolutions in Winograd's form (see winograd.py): tiles in, 36 products of matrices, tiles out."""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal, number
from skerry_compiler.engines.network.cost import Block, Machine, best_block
from skerry_compiler.engines.network.graph import Array
from skerry_compiler.engines.network.store import store
from skerry_compiler.engines.network.tail import Place, Result, Tail
from skerry_compiler.engines.network.winograd import POINTS, PRODUCTS, TILE, Winograd, transformed

FEW_TILES = 6  # of a thread
# One column or row of a tile: d, m are read and t, o written in steps of s. Whole tiles are functions of their own,
# because inlined into every layer they would take the compiler most of a second each.
TRANSFORMS = """\
INLINE void spread@(const f32x@ *d, f32x@ *t, int s) {
  const f32x@ a = d[4 * s] - 4.f * d[2 * s], b = d[3 * s] - 4.f * d[s];
  const f32x@ c = d[4 * s] - d[2 * s], e = 2.f * (d[3 * s] - d[s]);
  t[0] = 4.f * d[0] - 5.f * d[2 * s] + d[4 * s];
  t[s] = a + b;
  t[2 * s] = a - b;
  t[3 * s] = c + e;
  t[4 * s] = c - e;
  t[5 * s] = 4.f * d[s] - 5.f * d[3 * s] + d[5 * s];
}
INLINE void gather@(const f32x@ *m, f32x@ *o, int s) {
  const f32x@ p = m[s] + m[2 * s], q = m[s] - m[2 * s], r = m[3 * s] + m[4 * s], w = m[3 * s] - m[4 * s];
  o[0] = m[0] + p + r;
  o[s] = q + 2.f * w;
  o[2 * s] = p + 4.f * r;
  o[3 * s] = q + 8.f * w + m[5 * s];
}
/* 6x6 pixels at p, rows and pixels that far apart, become 36 vectors at v, that far apart */
static __attribute__((noinline, unused)) void spread_tile@(const float *p, long row, long pixel, float *v, long apart) {
  f32x@ d[36], t[36];
  for (int i = 0; i < 6; i++)
    for (int j = 0; j < 6; j++) d[i * 6 + j] = load@(p + i * row + j * pixel);
  for (int j = 0; j < 6; j++) spread@(d + j, t + j, 6);
  for (int i = 0; i < 6; i++) spread@(t + i * 6, d + i * 6, 1);
  for (int k = 0; k < 36; k++) store@(v + k * apart, d[k]);
}
/* 36 vectors at m, that far apart, become 4x4 pixels in o, rows of six */
static __attribute__((noinline, unused)) void gather_tile@(const float *m, long apart, f32x@ *o) {
  f32x@ d[36], t[24];
  for (int k = 0; k < 36; k++) d[k] = load@(m + k * apart);
  for (int j = 0; j < 6; j++) gather@(d + j, t + j, 6);
  for (int i = 0; i < 4; i++) gather@(t + i * 6, o + i * 6, 1);
}
"""


def emit(op: Winograd, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a convolution in tiles."""
    code, x, y, n = Code(), op.x, op.y, machine.lanes
    ci, co = op.weight.shape[2:]
    inside, outside = -(-ci // n) * n, -(-co // n) * n
    tiles = op.tiles[0] * op.tiles[1]
    batch = batch_of(tiles, inside + outside, machine, tables.threads)
    parts = tables.parts(-(-tiles // batch))
    block = best_block(1, batch, outside // n, ci, machine, inside * 4)
    tables.define(TRANSFORMS.replace("@", str(n)))
    reserve = tables.reserve if parts == 1 else tables.reserve_own
    reserve(4 * PRODUCTS * batch * (inside + outside))
    code.line(
        f"/* {literal(op.label)}: float 3x3 in tiles of {TILE}x{TILE}, {x.h}x{x.w}x{x.c} -> {y.h}x{y.w}x{y.c}; "
        f"{batch} tiles at a time, block {block.columns} tiles, {block.vectors}x{n} channels */"
    )
    code.function(name, parts)
    halo(code, y)
    code.line(f"const float *const x = {at(x)} + {x.origin - op.pads[0] * x.row - op.pads[1] * x.c};")
    code.line(f"{y.ctype} *const y = {at(y)} + {y.origin};")
    code.line(
        f"float *const v = (float *){'scratch' if parts == 1 else 'own'}, *const m = v + {PRODUCTS * batch * inside};"
    )
    code.split("first", tiles, batch)
    rest = f"{tiles} - first < {batch} ? {tiles} - first : {batch}"
    code.line(f"const int count = {rest if tiles % batch else batch};")
    _spread(code, op, n, batch, inside)
    _multiply(code, tables.add(panels(op, block, n), "float32"), block, n, (batch, ci, inside, outside))
    _gather(code, op, tables, n, batch, outside)
    code.close()
    code.close()
    return code


def batch_of(tiles: int, channels: int, machine: Machine, threads: int = 1) -> int:
    """Return how many tiles go through the three steps together: what they write between stays in the second cache.
    Threads take a batch each, unless so few tiles would be left in one that its weights are loaded for little.
    """
    most = max(16, machine.l2_bytes // 2 // (PRODUCTS * 4 * channels))
    count = -(-tiles // most)
    if tiles >= FEW_TILES * threads:
        count = -(-count // threads) * threads
    return -(-tiles // count)


def panels(op: Winograd, block: Block, n: int) -> Array:
    """Return transformed weights in reading order: product, block, input channel, vector, lane."""
    ci, co = op.weight.shape[2:]
    wide = -(-co // n) * n
    u = np.zeros((PRODUCTS, ci, wide), np.float32)
    u[..., :co] = transformed(op.weight)
    u = u.reshape(PRODUCTS, ci, wide // (block.vectors * n), block.vectors * n)
    return np.ascontiguousarray(u.transpose(0, 2, 1, 3))


def _place(code: Code, op: Winograd) -> None:
    code.open("for (int t = 0; t < count; t++)")
    across = op.tiles[1]
    code.line(f"const int row = (first + t) / {across} * {TILE}, column = (first + t) % {across} * {TILE};")


def _spread(code: Code, op: Winograd, n: int, batch: int, inside: int) -> None:
    """Write the transform of input tiles: v[36][batch][inside]."""
    x = op.x
    _place(code, op)
    code.open(f"for (int c = 0; c < {inside}; c += {n})")
    code.line(f"const float *const p = x + row * {x.row} + column * {x.c} + c;")
    where = f"v + t * {inside} + c"
    code.line(f"spread_tile{n}(p, {x.row}, {x.c}, {where}, {batch * inside});")
    code.close()
    code.close()


def _multiply(code: Code, weights: str, block: Block, n: int, sizes: tuple[int, int, int, int]) -> None:
    """Write the products m[36][batch][outside] = v[36][batch][ci] u[36][ci][outside]."""
    batch, ci, inside, outside = sizes
    nr = block.vectors
    code.loop("k", PRODUCTS)
    code.loop("block", outside // (nr * n))
    full, rest = divmod(batch, block.columns)
    for start, end, count in ((0, full * block.columns, block.columns), (full * block.columns, batch, rest)):
        if end == start:
            continue
        code.loop("t", end, count, start)
        code.line(f"const float *r = v + (k * {batch} + t) * {inside};")
        code.line(f"const float *w = {weights} + (k * {outside // (nr * n)} + block) * {ci * nr * n};")
        for i in range(count):
            for j in range(nr):
                code.line(f"f32x{n} a{i}_{j} = {{}};")
        code.line("#pragma clang loop unroll(disable) vectorize(disable)")
        code.open(f"for (int q = 0; q < {ci}; q++, r++, w += {nr * n})")
        for j in range(nr):
            code.line(f"const f32x{n} w{j} = load{n}(w + {j * n});")
        for i in range(count):
            for j in range(nr):
                code.line(f"a{i}_{j} += w{j} * r[{i * inside}];")
        code.close()
        for i in range(count):
            for j in range(nr):
                where = f"m + (k * {batch} + t + {i}) * {outside} + block * {nr * n} + {j * n}"
                code.line(f"store{n}({where}, a{i}_{j});")
        code.close()
    code.close()
    code.close()


def _gather(code: Code, op: Winograd, tables: Tables, n: int, batch: int, outside: int) -> None:
    """Write the transform back, bias, steps and stores."""
    y, co = op.y, op.weight.shape[3]
    tail = Tail(op, tables)
    bias = tables.add(np.concatenate([op.bias / tail.unit, np.zeros(outside - co)]), "float32")
    _place(code, op)
    code.open(f"for (int c = 0; c < {outside}; c += {n})")
    code.line(f"f32x{n} o[{TILE * POINTS}];")
    code.line(f"gather_tile{n}(m + t * {outside} + c, {batch * outside}, o);")
    scale = "" if tail.unit == 1.0 else f" * {number(1 / tail.unit)}"
    lanes = f"{co} - c" if co % n else ""
    for i in range(TILE):
        for j in range(TILE):
            checks = [f"row + {i} < {y.h}"] if y.h % TILE > 0 and i >= y.h % TILE else []
            checks += [f"column + {j} < {y.w}"] if y.w % TILE > 0 and j >= y.w % TILE else []
            code.open(f"if ({' && '.join(checks)})" if checks else "")
            code.line(f"f32x{n} s = o[{i * POINTS + j}]{scale} + load{n}({bias} + c);")
            place = Place(f"row + {i}" if i else "row", f"column + {j}" if j else "column", "c")
            tail.steps(code, "s", place, n, lanes)
            store(code, y, [Result("s", place, lanes)], n, tail.bounded)
            code.close()
    code.close()
    code.close()
