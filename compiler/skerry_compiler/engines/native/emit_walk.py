"""Tree ensembles on vectors (AVX-512): sixteen trees walk side by side, four such groups at a time.

One node is 32 bits: the rank of its threshold, the place of its first child in the tree (the second lies behind it),
and its column. Values of the row are ranks too (forest_codes), 16 bits each, and up to 64 of them stay in registers,
so that a step costs one gather for the nodes and a permutation for the row. The first three levels need no gather:
their seven words lie side by side for all trees and are blended. A leaf is a node that leads to itself.

Leaves are added in double precision. Sums of single-precision leaves are then free of rounding for all practical
numbers of trees, so the order does not matter and ties between classes stay ties.
"""

from __future__ import annotations

import textwrap

import numpy as np

from skerry_compiler.engines.native import emit_leaves, forest_layout, ir
from skerry_compiler.engines.native.forest_layout import GROUPS, LANES, TOP, TOP_LEVELS, Layout
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.native.text import Source

IN_REGISTERS = 64

PRELUDE = """
#include <immintrin.h>

// Blocks of 16 ascending numbers: the next block, or the rank, of x.
INLINE uint32_t rank_step(const float *restrict level, uint32_t block, __m512 x)
{
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_load_ps(level + block * 16), _CMP_GT_OQ);
    return block * 16 + (uint32_t)__builtin_popcount(below);
}
"""


def fits(op: ir.Forest, machine: Machine) -> bool:
    """Return whether the machine has the instructions and the nodes fit into 32 bits."""
    if machine.lanes < LANES or not machine.triple.startswith("x86_64"):
        return False
    if any(np.isnan(tree.threshold[tree.feature >= 0]).any() for tree in op.trees):
        return False
    return any(tree.depth for tree in op.trees) and forest_layout.plan(op) is not None


def emit(op: ir.Forest, name: str, source: Source) -> str:
    """Add the tables and return the code for one row: from x to y."""
    layout = forest_layout.plan(op)
    if layout is None:
        raise ValueError("nodes that do not fit into 32 bits")
    if PRELUDE not in source.tables:
        source.tables.insert(0, PRELUDE)
    nodes, tops, bases, leaves = forest_layout.tables(op, layout)
    source.table(f"{name}_nodes", nodes, "uint32_t")
    source.table(f"{name}_top", tops, "uint32_t")
    source.table(f"{name}_base", bases, "uint32_t")
    single = op.output.width == 1 or op.target is not None
    if single:
        worth = np.concatenate([op.values.reshape(-1).astype(np.float32), np.zeros(1, np.float32)])
        source.table(f"{name}_leaf", worth[leaves])
    else:
        kind, content = ("uint16_t", leaves.astype(np.uint16)) if len(op.values) < 1 << 16 else ("uint32_t", leaves)
        source.table(f"{name}_leaf", np.append(content, content[:1]), kind)  # a gather reads 4 bytes at the last, too
    lines = [_ranks(layout, name, source), _steps(layout, name), _walk(op, layout, name, source, single)]
    lines.append(emit_leaves.single(op, layout, name, source) if single else emit_leaves.rows(op, name, source))
    return "\n".join(lines)


def _ranks(layout: Layout, name: str, source: Source) -> str:
    """Return the code that computes the row's ranks into `rank`."""
    columns = layout.codes.columns
    search: list[np.ndarray] = []
    offsets, free = [], 0
    for column in columns:
        places = []
        for table in column.tables():
            places.append(free)
            search.append(table)
            free += len(table)
        offsets.append(places)
    source.table(f"{name}_search", np.concatenate(search))
    source.table(f"{name}_column", np.array([each.feature for each in columns], np.uint32), "uint32_t")
    source.table(f"{name}_missing", np.array([each.missing for each in columns], np.uint16), "uint16_t")
    room = max(IN_REGISTERS, len(columns) + 2)
    lines = [f"uint16_t rank[{room}] __attribute__((aligned(64)));"]
    start = 0
    while start < len(columns):
        levels = columns[start].levels
        end = next((at for at in range(start, len(columns)) if columns[at].levels != levels), len(columns))
        at = source.table(f"{name}_at{levels}", np.array(offsets[start:end], np.uint32), "uint32_t")
        lines.append(f"for (int c = 0; c < {end - start}; c++) {{")
        lines.append(f"    const float value = x[{name}_column[c + {start}]];")
        lines.append("    const __m512 v = _mm512_set1_ps(value);")
        lines.append("    uint32_t found = 0;")
        step = f"{name}_search + {at}[c * {levels} + @]"
        lines += [f"    found = rank_step({step.replace('@', str(level))}, found, v);" for level in range(levels)]
        lines.append(f"    rank[c + {start}] = value == value ? (uint16_t)found : {name}_missing[c + {start}];")
        lines.append("}")
        start = end
    return "\n".join(lines)


def _steps(layout: Layout, name: str) -> str:
    """Return the constants and the two expressions of a step as macros: does it go to the second child, and where
    to.
    """
    shift = layout.rank_bits + layout.next_bits
    count = len(layout.codes.columns)
    lines = [f"const __m512i mask = _mm512_set1_epi32({(1 << layout.rank_bits) - 1});"]
    lines.append(f"const __m512i place = _mm512_set1_epi32({(1 << layout.next_bits) - 1});")
    lines.append("const __m512i one = _mm512_set1_epi32(1);")
    column = f"_mm512_srli_epi32(w, {shift})"
    if count <= IN_REGISTERS:
        lines.append("const __m512i ranks0 = _mm512_load_si512(rank);")
        value = f"_mm512_maskz_permutexvar_epi16(0x55555555u, {column}, ranks0)"
    if LANES * 2 < count <= IN_REGISTERS:
        lines.append("const __m512i ranks1 = _mm512_load_si512(rank + 32);")
        value = f"_mm512_maskz_permutex2var_epi16(0x55555555u, ranks0, {column}, ranks1)"
    if count > IN_REGISTERS:
        lines.append("const __m512i half = _mm512_set1_epi32(0xffff);")
        value = f"_mm512_and_si512(_mm512_i32gather_epi32({column}, rank, 2), half)"
    lines.append(f"#define SECOND(w) _mm512_cmpgt_epi32_mask({value}, _mm512_and_si512(w, mask))")
    following = f"_mm512_add_epi32(base, _mm512_and_si512(_mm512_srli_epi32(w, {layout.rank_bits}), place))"
    lines.append(
        f"#define STEP(to, w, base) {{ const __m512i next = {following};"
        " to = _mm512_mask_add_epi32(next, SECOND(w), next, one); }"
    )
    return "\n".join(lines)


def _walk(op: ir.Forest, layout: Layout, name: str, source: Source, single: bool) -> str:
    """Return the code that walks all trees and leaves each one's value, or row of values, in `leaf`."""
    groups = len(layout.order) // LANES
    depths = [op.trees[index].depth if index >= 0 else 0 for index in layout.order]
    deep = [max(depths[at * LANES : (at + 1) * LANES]) for at in range(groups)]
    whole = groups // GROUPS
    lines = [f"{'float' if single else 'uint32_t'} leaf[{len(layout.order) + LANES}] __attribute__((aligned(64)));"]
    if whole:
        most = [max(0, max(deep[at * GROUPS : (at + 1) * GROUPS]) - TOP_LEVELS) for at in range(whole)]
        levels = source.table(f"{name}_levels", np.array(most, np.uint16), "uint16_t")
        lines += [f"for (int b = 0; b < {whole}; b++) {{"]
        lines += [f"    const int g = b * {GROUPS};", *_groups(op, name, GROUPS, f"{levels}[b]", single), "}"]
    if groups % GROUPS:
        rest = max(0, max(deep[whole * GROUPS :]) - TOP_LEVELS)
        lines += ["{", f"    const int g = {whole * GROUPS};"]
        lines += [*_groups(op, name, groups % GROUPS, str(rest), single), "}"]
    return "\n".join([*lines, "#undef SECOND", "#undef STEP"])


def _groups(op: ir.Forest, name: str, count: int, levels: str, single: bool) -> list[str]:
    lines = []
    for i in range(count):
        lines.append(f"__m512i base{i} = _mm512_load_si512({name}_base + (g + {i}) * {LANES}), at{i}, w{i};")
        lines.append("{")
        lines.append(f"    const uint32_t *top = {name}_top + (g + {i}) * {TOP * LANES};")
        words = [f"t{n} = _mm512_load_si512(top + {n * LANES})" for n in range(TOP)]
        lines.append(f"    const __m512i {', '.join(words)};")
        lines.append("    const __mmask16 first = SECOND(t0);")
        lines.append("    const __m512i t = _mm512_mask_blend_epi32(first, t1, t2);")
        lines.append("    const __mmask16 second = SECOND(t);")
        left, right = (f"_mm512_mask_blend_epi32(second, t{n}, t{n + 1})" for n in (3, 5))
        lines.append(f"    w{i} = _mm512_mask_blend_epi32(first, {left}, {right});")
        lines.append("}")
        lines.append(f"STEP(at{i}, w{i}, base{i})")
    lines.append(f"for (int level = {levels}; level > 0; level--) {{")
    lines += [f"    w{i} = _mm512_i32gather_epi32(at{i}, {name}_nodes, 4);" for i in range(count)]
    lines += [f"    STEP(at{i}, w{i}, base{i})" for i in range(count)]
    lines.append("}")
    for i in range(count):
        to = f"leaf + (g + {i}) * {LANES}"
        if single:
            lines.append(f"_mm512_store_ps({to}, _mm512_i32gather_ps(at{i}, {name}_leaf, 4));")
        elif len(op.values) < 1 << 16:
            found = f"_mm512_and_si512(_mm512_i32gather_epi32(at{i}, {name}_leaf, 2), _mm512_set1_epi32(0xffff))"
            lines.append(f"_mm512_store_si512({to}, {found});")
        else:
            lines.append(f"_mm512_store_si512({to}, _mm512_i32gather_epi32(at{i}, {name}_leaf, 4));")
    return textwrap.indent("\n".join(lines), "    ").split("\n")
