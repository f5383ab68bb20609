"""Choosing bytes: which operations compute on bytes, and the conversions between them and float32."""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.network.calibrate import Ranges
from skerry_compiler.engines.network.emit_move import planes
from skerry_compiler.engines.network.graph import (
    Conv,
    Input,
    Map,
    Move,
    Network,
    Op,
    Output,
    Permute,
    Pool,
    Quant,
    Reduce,
    Reshape,
    Resize,
    Tensor,
    Unary,
)  # fmt: skip

FOLLOWS = (Map, Move, Permute, Pool, Reduce, Reshape, Resize)
KEEPS = (Move, Permute, Reshape, Resize)


@dataclasses.dataclass(frozen=True, slots=True)
class Precision:
    """What stays in float32: the first `skip` convolutions (in running order), the last `keep` ones, and those whose
    numbers are in `leave`.
    """

    skip: int = 0
    keep: int = 0
    leave: frozenset[int] = frozenset()


def quantise(network: Network, ranges: Ranges, precision: Precision) -> None:
    """Turn tensors into bytes where the operations that read them compute on bytes."""
    _choose(network, precision)
    groups = _unify(network)
    wanted = {id(t) for op in network.ops if op.int8 for t in op.reads}
    for op in network.ops:
        y = op.y
        if id(y) in wanted and _writes_bytes(op):
            span = _span(y, groups, ranges)
            if span is not None:
                y.quant = quant_of(*span)
    _casts(network, groups, ranges)
    _four_planes(network)


def _four_planes(network: Network) -> None:
    """Give an image that arrives in planes four bytes a pixel: interleaving is then one shuffle."""
    for op in network.ops:
        if not isinstance(op, Input) or op.y.quant is None or not planes(op) or op.y.c == 4:
            continue
        readers = network.readers(op.y)
        plain = [
            r for r in readers if isinstance(r, Conv) and r.groups == 1 and r.x is op.y and r.reads.count(op.y) == 1
        ]
        if len(plain) == len(readers):
            spare = 4 - op.y.c
            op.y.c = 4
            for conv in plain:
                conv.weight = np.pad(conv.weight, ((0, 0), (0, 0), (0, spare), (0, 0)))


def quant_of(low: float, high: float) -> Quant:
    """Return the byte form of a range that contains zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, 1e-9)
    return Quant(scale, int(np.clip(round(-low / scale), 0, 255)))


def _choose(network: Network, precision: Precision) -> None:
    convs = [op for op in network.ops if isinstance(op, Conv)]
    last = len(convs) - precision.keep
    inside = {id(op) for i, op in enumerate(convs) if precision.skip <= i < last and i not in precision.leave}
    byte: set[int] = set()
    for op in network.ops:
        if isinstance(op, Conv):
            op.int8 = id(op) in inside
        elif isinstance(op, Input):
            op.int8 = op.y.kind == "float32"
        elif isinstance(op, FOLLOWS):
            op.int8 = all(id(t) in byte for t in op.reads) and not (isinstance(op, Reduce) and op.how == "sum")
        if op.int8:
            byte.add(id(op.y))


def _writes_bytes(op: Op) -> bool:
    return isinstance(op, (Conv, Map, Input, Reduce, Pool)) or (isinstance(op, KEEPS) and op.int8)


def _unify(network: Network) -> dict[int, list[Tensor]]:
    """Group tensors between which bytes are moved without arithmetic: they share one scale."""
    groups: dict[int, list[Tensor]] = {}

    def group(t: Tensor) -> list[Tensor]:
        return groups.setdefault(id(t), [t])

    for op in network.ops:
        if op.int8 and (isinstance(op, KEEPS) or (isinstance(op, Pool) and not op.mean and not op.steps)):
            for x in op.sources:
                a, b = group(op.y), group(x)
                if a is not b:
                    a.extend(b)
                    for t in b:
                        groups[id(t)] = a
    return groups


def _span(t: Tensor, groups: dict[int, list[Tensor]], ranges: Ranges) -> tuple[float, float] | None:
    spans = [ranges[m.name] for m in groups.get(id(t), [t]) if m.name in ranges]
    return (min(a for a, _ in spans), max(b for _, b in spans)) if spans else None


def _casts(network: Network, groups: dict[int, list[Tensor]], ranges: Ranges) -> None:
    """Put conversions where an operation reads another type than it is given."""
    ops: list[Op] = []
    made: dict[tuple[int, bool], Tensor] = {}
    for op in network.ops:
        byte_keeps = isinstance(op, KEEPS) and op.y.quant is not None
        for t in list(dict.fromkeys(op.reads)):
            byte = t.quant is not None
            free = isinstance(op, (Map, Output)) or (isinstance(op, Unary) and t is not op.x) or isinstance(op, Reduce)
            want = (op.int8 and isinstance(op, (Conv, Pool))) or byte_keeps
            if isinstance(op, Conv) and t is not op.x:
                continue
            if byte == want and not (byte_keeps and t.quant != op.y.quant):
                continue
            if free and not isinstance(op, Conv):
                continue
            key = (id(t), want)
            if key not in made or byte_keeps:
                span = _span(t, groups, ranges)
                if want and span is None:
                    op.int8 = False
                    continue
                copy = Tensor(
                    t.name,
                    t.h,
                    t.w,
                    t.c,
                    quant=(op.y.quant if byte_keeps else quant_of(*span)) if want and span else None,
                )
                ops.append(Map(label="Cast", x=t, y=copy))
                made[key] = copy
            op.replace(t, made[key])
        ops.append(op)
    network.ops[:] = ops
