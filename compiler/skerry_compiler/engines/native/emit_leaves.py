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
    """Return the code that adds one value a tree: over its column's range, or one by one."""
    columns = op.output.width
    first = source.table(f"{name}_first", op.base)
    if layout.ranges is None:
        assert op.target is not None
        target = [op.target[index] if index >= 0 else 0 for index in layout.order]
        source.table(f"{name}_target", np.array(target, np.uint32), "uint32_t")
        return (
            f"double sum[{columns}];\nfor (int c = 0; c < {columns}; c++) sum[c] = 0.0;\n"
            f"for (int t = 0; t < {len(target)}; t++) sum[{name}_target[t]] += leaf[t];\n"
            f"for (int c = 0; c < {columns}; c++) y[c] = (float)(sum[c]{_share(op)} + {first}[c]);"
        )
    ends = source.table(f"{name}_end", np.array([end for _, end in layout.ranges], np.uint32), "uint32_t")
    return f"""\
uint32_t t = 0;
for (int c = 0; c < {columns}; c++) {{
    __m512d low = _mm512_setzero_pd(), high = low;
    for (; t < {ends}[c]; t += {LANES}) {{
        low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm256_load_ps(leaf + t)));
        high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm256_load_ps(leaf + t + 8)));
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
