"""What the leaves that a row reached add up to, in double precision, on AVX-512."""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.forest_layout import LANES, Layout
from skerry_compiler.engines.native.text import Source, number

SMALL_BYTES = 32 << 10  # tables of leaves up to here are held in double precision
BLOCK = 8  # doubles of one vector
MAX_BLOCKS = 8  # vectors of sums that stay in registers


def _share(op: ir.Forest) -> str:
    return f" / {number(op.divide_by)}" if op.divide_by != 1.0 else ""


def single(op: ir.Forest, layout: Layout, name: str, source: Source) -> str:
    """Return the code that adds one value a tree: group by group where a group has one column, else picked from their
    places by column.
    """
    columns, count = op.output.width, len(layout.order)
    first = source.table(f"{name}_first", op.base)
    finish = f"for (int c = 0; c < {columns}; c++) y[c] = (float)(sum[c]{_share(op)} + {first}[c]);"
    zero = f"double sum[{columns}];\nfor (int c = 0; c < {columns}; c++) sum[c] = 0.0;"
    if columns == 1:
        return (
            f"__m512d low = _mm512_setzero_pd(), high = low;\nfor (int t = 0; t < {count}; t += {LANES}) {{\n"
            "    low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm256_load_ps(leaf + t)));\n"
            "    high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm256_load_ps(leaf + t + 8)));\n}\n"
            f"y[0] = (float)(_mm512_reduce_add_pd(_mm512_add_pd(low, high)){_share(op)} + {first}[0]);"
        )
    if layout.columns is not None:
        column = source.table(f"{name}_column_of", np.array(layout.columns, np.uint32), "uint32_t")
        return (
            f"{zero}\nfor (int g = 0; g < {count // LANES}; g++) {{\n"
            f"    const __m512d low = _mm512_cvtps_pd(_mm256_load_ps(leaf + g * {LANES}));\n"
            f"    const __m512d high = _mm512_cvtps_pd(_mm256_load_ps(leaf + g * {LANES} + 8));\n"
            f"    sum[{column}[g]] += _mm512_reduce_add_pd(_mm512_add_pd(low, high));\n}}\n{finish}"
        )
    assert op.target is not None
    parts = [
        [t for t, index in enumerate(layout.order) if index >= 0 and op.target[index] == c] for c in range(columns)
    ]
    picks = [place for part in parts for place in part + [count] * (-len(part) % LANES)]
    ends = np.cumsum([-(-len(part) // LANES) * LANES for part in parts])
    pick = source.table(f"{name}_pick", np.array(picks, np.uint32), "uint32_t")
    end = source.table(f"{name}_end", ends.astype(np.uint32), "uint32_t")
    return f"""\
leaf[{count}] = 0.0f; // what fills up a column
uint32_t t = 0;
for (int c = 0; c < {columns}; c++) {{
    __m512d low = _mm512_setzero_pd(), high = low;
    for (; t < {end}[c]; t += {LANES}) {{
        const __m512 v = _mm512_i32gather_ps(_mm512_load_si512({pick} + t), leaf, 4);
        low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
        high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
    }}
    y[c] = (float)(_mm512_reduce_add_pd(_mm512_add_pd(low, high)){_share(op)} + {first}[c]);
}}"""


def rows(op: ir.Forest, name: str, source: Source) -> str:
    """Return the code that adds a row of values a tree, columns side by side."""
    columns, count = op.output.width, len(op.trees)
    width = -(-columns // BLOCK) * BLOCK
    padded = np.zeros((len(op.values), width), np.float32)
    padded[:, :columns] = op.values
    double = padded.size * 8 <= SMALL_BYTES
    source.table(f"{name}_values", padded, "double" if double else "float")
    first = source.table(f"{name}_first", op.base)
    lines = []
    chains = 2 if count % 2 == 0 else 1
    for start in range(0, width, BLOCK * MAX_BLOCKS):
        blocks = min(MAX_BLOCKS, (width - start) // BLOCK)
        lines += ["{", f"    double sum[{blocks * BLOCK}] __attribute__((aligned(64)));"]
        named = [f"s{chain}_{b} = _mm512_setzero_pd()" for chain in range(chains) for b in range(blocks)]
        lines.append(f"    __m512d {', '.join(named)};")
        lines.append(f"    for (int t = 0; t < {count}; t += {chains}) {{")
        for chain in range(chains):
            kind = "double" if double else "float"
            lines.append(f"        const {kind} *v{chain} = {name}_values + (uint64_t)leaf[t + {chain}] * {width};")
        for chain in range(chains):
            for b in range(blocks):
                at = f"v{chain} + {start + b * BLOCK}"
                worth = f"_mm512_load_pd({at})" if double else f"_mm512_cvtps_pd(_mm256_load_ps({at}))"
                lines.append(f"        s{chain}_{b} = _mm512_add_pd(s{chain}_{b}, {worth});")
        lines.append("    }")
        for b in range(blocks):
            total = f"_mm512_add_pd(s0_{b}, s1_{b})" if chains == 2 else f"s0_{b}"
            lines.append(f"    _mm512_store_pd(sum + {b * BLOCK}, {total});")
        last = min(columns - start, blocks * BLOCK)
        lines.append(
            f"    for (int c = 0; c < {last}; c++) y[c + {start}] = (float)(sum[c]{_share(op)} + {first}[c + {start}]);"
        )
        lines.append("}")
    return "\n".join(lines)
