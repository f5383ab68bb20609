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
    zipped = _zipped(code, op, axes, machine) if run == 1 else False
    if zipped:
        code.close()
        return code
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


def _zipped(code: Code, op: Permute, axes: list[tuple[int, int, int]], machine: Machine) -> bool:
    """Write the interleaving of two halves, or its reverse, where that is all; returns whether it is."""
    if len(axes) < 2:
        return False
    (outer, outer_read, outer_write), (inner, inner_read, inner_write) = axes[-2:]
    joins = inner == 2 and (outer_read, outer_write, inner_write) == (1, 2, 1)
    splits = outer == 2 and (inner_read, inner_write, outer_read) == (2, 1, 1)
    length = outer if joins else inner
    widest = machine.lanes * (4 if op.x.item == 1 else 1)
    n = next((e for e in (64, 32, 16, 8, 4) if e <= min(length, widest) and (op.x.item > 1 or e >= 16)), 0)
    if not (joins or splits) or not n or op.x.ctype not in ("float", "uint8_t"):
        return False
    for i, (d, _, _) in enumerate(axes[:-2]):
        code.open(f"for (int i{i} = 0; i{i} < {d}; i{i}++)")
    kind, load, store = ("f32x", "load", "store") if op.x.item > 1 else ("u8x", "loadq", "storeq")
    source = " + ".join(f"i{i} * {r}" for i, (_, r, _) in enumerate(axes[:-2])) or "0"
    target = " + ".join(f"i{i} * {w}" for i, (_, _, w) in enumerate(axes[:-2])) or "0"
    code.loop("k", -(-length // n))
    code.line(f"const int i = k < {length // n} ? k * {n} : {length - n};")
    second = f"i + {inner_read}" if joins else f"2 * i + {n}"
    code.line(f"const {kind}{n} a = {load}{n}(x + {source} + {'i' if joins else '2 * i'});")
    code.line(f"const {kind}{n} b = {load}{n}(x + {source} + {second});")
    for half in (0, 1):
        if joins:
            order = [half * n // 2 + i // 2 + i % 2 * n for i in range(n)]
            where = f"2 * i + {half * n}"
        else:
            order = [2 * i + half for i in range(n)]
            where = f"i + {half * outer_write}"
        value = f"__builtin_shufflevector(a, b, {', '.join(map(str, order))})"
        code.line(f"{store}{n}(y + {target} + {where}, {value});")
    for _ in range(len(axes) - 1):
        code.close()
    return True
