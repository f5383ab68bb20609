"""Changes of the lowered graph that make it shorter: constants into weights, activations into the layer before, idle
operations out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.native import fuse_distances, ir

# A scaler folds into the weights behind it only where its offsets are moderate: with (x - 1e6) * 1 the sum would
# cancel in float32.
MAX_FOLDED_OFFSET = 64.0


def fuse(graph: ir.Graph) -> ir.Graph:
    """Return the graph after all changes; the answers differ by rounding only."""
    for change in (fuse_distances.distances, _affine_after_dense, _affine_before_dense, _activation, _dead):
        graph = change(graph)
    return graph


def _producers(graph: ir.Graph) -> dict[str, ir.Op]:
    return {op.output.name: op for op in graph.ops}


def _affine_after_dense(graph: ir.Graph) -> ir.Graph:
    """(x W + b - shift) scale = x (W scale) + (b - shift) scale."""
    uses, made = graph.uses(), _producers(graph)
    ops: list[ir.Op] = []
    for op in graph.ops:
        before = made.get(op.inputs[0].name) if isinstance(op, ir.Affine) else None
        if (
            isinstance(op, ir.Affine)
            and isinstance(before, ir.Dense)
            and uses[before.output.name] == 1
            and not before.activation
        ):
            weight = before.weight.astype(np.float64) * op.scale
            bias = (before.bias.astype(np.float64) - op.shift) * op.scale
            fused = dataclasses.replace(
                before, output=op.output, weight=weight.astype(np.float32), bias=bias.astype(np.float32)
            )
            ops[ops.index(before)] = fused
            made[op.output.name] = fused
        else:
            ops.append(op)
    return dataclasses.replace(graph, ops=_sorted(graph, ops))


def _affine_before_dense(graph: ir.Graph) -> ir.Graph:
    """((x - shift) scale) W + b = x (scale W) + (b - (shift scale) W)."""
    uses, made = graph.uses(), _producers(graph)
    ops: list[ir.Op] = []
    for op in graph.ops:
        before = made.get(op.inputs[0].name) if isinstance(op, ir.Dense) else None
        while isinstance(before, ir.View):  # a cast to the same type, a reshape of one row
            before = made.get(before.inputs[0].name) if uses[before.output.name] == 1 else None
        if (
            isinstance(op, ir.Dense)
            and isinstance(before, ir.Affine)
            and uses[before.output.name] == 1
            and before.output.width == op.inputs[0].width
            and float(np.max(np.abs(before.shift * before.scale), initial=0.0)) <= MAX_FOLDED_OFFSET
        ):
            weight = op.weight.astype(np.float64)
            bias = op.bias.astype(np.float64) - (before.shift * before.scale) @ weight
            source = dataclasses.replace(before.inputs[0])
            ops.append(
                dataclasses.replace(
                    op,
                    inputs=(source,),
                    weight=(before.scale[:, None] * weight).astype(np.float32),
                    bias=bias.astype(np.float32),
                )
            )
        else:
            ops.append(op)
    return dataclasses.replace(graph, ops=ops)


def _activation(graph: ir.Graph) -> ir.Graph:
    """Relu behind a Dense becomes part of it."""
    uses, made = graph.uses(), _producers(graph)
    ops: list[ir.Op] = []
    for op in graph.ops:
        before = made.get(op.inputs[0].name) if isinstance(op, ir.Map) and op.kind == "relu" else None
        if isinstance(before, ir.Dense) and uses[before.output.name] == 1 and not before.activation:
            fused = dataclasses.replace(before, output=op.output, activation="relu")
            ops[ops.index(before)] = fused
            made[op.output.name] = fused
        else:
            ops.append(op)
    return dataclasses.replace(graph, ops=_sorted(graph, ops))


def _dead(graph: ir.Graph) -> ir.Graph:
    """Operations whose output nobody reads are dropped."""
    needed = {value.name for value in graph.outputs}
    keep: list[ir.Op] = []
    for op in reversed(graph.ops):
        if op.output.name in needed:
            keep.append(op)
            needed.update(value.name for value in op.inputs)
    return dataclasses.replace(graph, ops=keep[::-1])


def _sorted(graph: ir.Graph, ops: list[ir.Op]) -> list[ir.Op]:
    """Return the operations in an order in which each reads only what was made before; stable."""
    made = {value.name for value in graph.inputs}
    waiting, done = list(ops), []
    while waiting:
        ready = next(op for op in waiting if all(value.name in made for value in op.inputs))
        waiting.remove(ready)
        done.append(ready)
        made.add(ready.output.name)
    return done
