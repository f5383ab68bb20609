"""Permutations of axes: squares of float32 are turned in registers, whole runs are copied, the rest goes one by one."""

from __future__ import annotations

from skerry_compiler.engines.network.code import Code, Tables, at
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit_move import head
from skerry_compiler.engines.network.graph import Permute
from skerry_compiler.engines.network.values import strides


def emit_permute(op: Permute, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a permutation of axes."""
    code, x, y = Code(), op.x, op.y
    head(code, op.label, name, y, f"permute {op.dims} by {op.axes}")
    code.line(f"const {x.ctype} *const x = {at(x)} + {x.origin};")
    dims = tuple(op.dims[a] for a in op.axes)
    read, write = strides(x, op.dims), strides(y, dims)
    assert read is not None and write is not None
    axes = [(d, read[a], w) for d, a, w in zip(dims, op.axes, write, strict=True) if d > 1]
    run = 1
    while axes and axes[-1][1] == axes[-1][2] == run:
        run *= axes.pop()[0]
    square = _square(op, axes, run, machine)
    for i, (d, _, _) in enumerate(axes):
        if square and i in square[1:]:
            code.loop(f"k{i}", -(-d // square[0]))
            code.line(f"const int i{i} = k{i} < {d // square[0]} ? k{i} * {square[0]} : {d - square[0]};")
        else:
            code.open(f"for (int i{i} = 0; i{i} < {d}; i{i}++)")
    source = " + ".join(f"i{i} * {r}" for i, (_, r, _) in enumerate(axes)) or "0"
    target = " + ".join(f"i{i} * {w}" for i, (_, _, w) in enumerate(axes)) or "0"
    if square:
        n, along, across = square
        code.line(f"fn_turn{n}(x + {source}, {axes[across][1]}, y + {target}, {axes[along][2]});")
    elif run > 1:
        code.line(f"copy_bytes(y + {target}, x + {source}, {run * x.item});")
    else:
        code.line(f"y[{target}] = x[{source}];")
    for _ in axes:
        code.close()
    code.close()
    return code


def _square(op: Permute, axes: list[tuple[int, int, int]], run: int, machine: Machine) -> tuple[int, int, int] | None:
    """Return the side of blocks that are transposed in registers, and the axes that x and y have innermost."""
    along = next((i for i, (_, r, _) in enumerate(axes) if r == 1), None)
    across = next((i for i, (_, _, w) in enumerate(axes) if w == 1), None)
    if along is None or across is None or along == across or run > 1 or op.x.ctype != "float":
        return None
    shortest = min(axes[along][0], axes[across][0])
    n = 8 if machine.lanes >= 8 and shortest >= 8 else 4
    return (n, along, across) if shortest >= n else None
