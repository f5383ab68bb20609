"""Distances between the row and constant points, written out as differences, become one kernel."""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.native import ir


def distances(graph: ir.Graph) -> ir.Graph:
    """Return the graph with |point - x|^2, the sum of |point - x| and its greatest element as kernels."""
    uses, made = graph.uses(), {op.output.name: op for op in graph.ops}
    ops = []
    for op in graph.ops:
        found = _kernel(op, uses, made) if isinstance(op, ir.Reduce) else None
        ops += [op] if found is None else found
    return dataclasses.replace(graph, ops=ops)


def _kernel(op: ir.Reduce, uses: dict[str, int], made: dict[str, ir.Op]) -> list[ir.Op] | None:
    """Return the operations that replace a reduction, or None where it is no distance."""
    inner = made.get(op.inputs[0].name)
    if isinstance(inner, ir.Combine) and inner.kind == "mul" and inner.inputs[0] is inner.inputs[1]:
        kind, readers = "distance" if op.kind == "sum" else "", 2
    elif isinstance(inner, ir.Map) and inner.kind == "abs":
        kind, readers = {"sum": "absolute", "max": "greatest"}.get(op.kind, ""), 1
    else:
        return None
    if op.kind == "sum_of_squares":
        return None
    apart = made.get(inner.inputs[0].name)
    if not kind or not isinstance(apart, ir.Combine) or apart.kind != "sub":
        return None
    if uses[inner.output.name] != 1 or uses[apart.output.name] != readers:
        return None
    points, row = apart.inputs
    for one, other in ((points, row), (row, points)):
        table = made.get(one.name)
        if isinstance(table, ir.Constant) and other.elements == other.width == table.content.shape[-1]:
            support = np.asarray(table.content, np.float32).reshape(-1, other.width)
            if len(support) != op.output.elements or table.content.dtype != np.float32:
                return None
            flat = ir.Value(f"{op.output.name}#row", other.dtype, (1, other.width))
            far = ir.Value(f"{op.output.name}#far", op.output.dtype, (1, len(support)))
            return [ir.View((other,), flat), ir.Kernel((flat,), far, support, kind), ir.View((far,), op.output)]
    return None
