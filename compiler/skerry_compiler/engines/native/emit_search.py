"""The least elements of a row in their order, and elements picked by computed places."""

from __future__ import annotations

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.text import Source

BLOCK = 16  # elements that are passed over together where none of them belongs to the least


def emit(op: ir.First | ir.Pick, name: str, source: Source) -> None:
    """Add the function of one operation. Signature: its inputs, then y."""
    x, width = op.inputs[0], op.inputs[0].width
    if isinstance(op, ir.Pick):
        places, count = op.inputs[1], op.inputs[1].width
        at = f"const int64_t at = x1[row * {count} + i];"
        body = f"""
for (int row = 0; row < {places.rows}; row++)
    for (int i = 0; i < {count}; i++) {{
        {at}
        y[row * {count} + i] = x0[row * {width} + (at < 0 ? 0 : at >= {width} ? {width - 1} : at)];
    }}
"""
        heads = f"const {x.c_type} *restrict x0, const {places.c_type} *restrict x1"
        source.function(name, f"{heads}, {op.output.c_type} *restrict y", body, f"{op.output.name}: elements by place")
        return
    about = f"{op.output.name}: the first {op.count} of {width}"
    source.function(name, f"const {x.c_type} *restrict x, {op.output.c_type} *restrict y", _first(op), about)


def _first(op: ir.First) -> str:
    """Insertion into a sorted list of `count`; most elements fail one comparison with its last."""
    x, width, count = op.inputs[0], op.inputs[0].width, op.count
    before = ">" if op.greatest else "<"
    whole = width - width % BLOCK if width >= 4 * BLOCK else 0
    skip = f"""
        if (i >= {count} && i % {BLOCK} == 0 && i < {whole}) {{ // a whole block in which nothing belongs there
            int any = 0;
            for (int j = 0; j < {BLOCK}; j++) any |= x[i + j] {before} least[{count - 1}];
            if (!any) {{ i += {BLOCK - 1}; continue; }}
        }}"""
    return f"""
for (int row = 0; row < {x.rows}; row++, x += {width}, y += {count}) {{
    {x.c_type} least[{count}];
    for (int i = 0; i < {width}; i++) {{{skip if whole else ""}
        if (i >= {count} && !(x[i] {before} least[{count - 1}])) continue;
        int at = i < {count} ? i : {count - 1};
        for (; at > 0 && x[i] {before} least[at - 1]; at--) least[at] = least[at - 1], y[at] = y[at - 1];
        least[at] = x[i];
        y[at] = i;
    }}
}}
"""
