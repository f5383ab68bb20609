"""Planning memory: halos from the readers, and one static arena in which tensors of different times share bytes."""

from __future__ import annotations

import math

from skerry_compiler.engines.network import arena, overlap
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.graph import Conv, Input, Matmul, Network, Op, Output, Permute, Reshape, Tensor
from skerry_compiler.engines.network.values import strides
from skerry_compiler.engines.network.winograd import Winograd
from skerry_compiler.engines.network.winograd import needed as needed_by_tiles


def plan(network: Network, machine: Machine) -> int:
    """Give every tensor its halo and offset; returns the bytes of the arena. Where code is compact and of one thread,
    tensors may lie over what their operation reads for the last time, and operations are told the way they must go.
    """
    for op in network.ops:
        if isinstance(op, Conv):
            op.x.widen(needed(op))
    _densify(network)
    for op in network.ops:
        if isinstance(op, Reshape) and op.x.dense and op.y.dense and (op.x.quant is None) == (op.y.quant is None):
            op.y.alias = root(op.x)
    return _place(network, machine)


def needed(op: Conv) -> tuple[int, int, int, int]:
    """Return the halo that a convolution reads: its padding, less what its stride never reaches."""
    if isinstance(op, Winograd):
        return needed_by_tiles(op)
    top, left = op.pads[:2]
    bottom = (op.y.h - 1) * op.stride[0] + (op.weight.shape[0] - 1) * op.dilation[0] + 1 - top - op.x.h
    right = (op.y.w - 1) * op.stride[1] + (op.weight.shape[1] - 1) * op.dilation[1] + 1 - left - op.x.w
    return top, left, max(0, bottom), max(0, right)


def root(tensor: Tensor) -> Tensor:
    """Return the tensor that owns the memory."""
    while tensor.alias is not None:
        tensor = tensor.alias
    return tensor


def _densify(network: Network) -> None:
    """Give readers that cannot step over a halo a copy without one."""
    ops: list[Op] = []
    for op in network.ops:
        needs: list[Tensor] = []
        if isinstance(op, Matmul) or op.dense:
            needs = [t for t in op.sources if not t.dense]
        elif isinstance(op, Permute) and strides(op.x, op.dims) is None:
            needs = [op.x]
        for tensor in dict.fromkeys(needs):
            copy = Tensor(tensor.name, tensor.h, tensor.w, tensor.c, quant=tensor.quant, kind=tensor.kind)
            ops.append(Reshape(label="Copy", x=tensor, y=copy))
            op.replace(tensor, copy)
        ops.append(op)
        cut = isinstance(op, Permute) and strides(op.y, tuple(op.dims[a] for a in op.axes)) is None
        cut = (
            cut
            or ((isinstance(op, Matmul) or op.dense) and not op.y.dense)
            or (isinstance(op, Input) and op.y.elements == math.prod(op.dims) and strides(op.y, op.dims) is None)
        )
        if cut:
            tensor = op.y
            op.y = Tensor(tensor.name, tensor.h, tensor.w, tensor.c, quant=tensor.quant, kind=tensor.kind)
            ops.append(Reshape(label="Copy", x=op.y, y=tensor))
    network.ops[:] = ops


def _place(network: Network, machine: Machine) -> int:
    """Place the tensors; returns the arena's size in bytes."""
    born: dict[int, int] = {}
    dies: dict[int, int] = {}
    owners: dict[int, Tensor] = {}
    for i, op in enumerate(network.ops):
        for t in [*op.reads, *([] if isinstance(op, Output) else [op.y])]:
            owner = root(t)
            owners[id(owner)] = owner
            born.setdefault(id(owner), i)
            dies[id(owner)] = i
    if machine.compact and machine.threads == 1:
        return _overlapped(network, machine, owners, born, dies)
    placed: list[Tensor] = []
    for key, tensor in sorted(owners.items(), key=lambda kv: (-kv[1].size_bytes, born[kv[0]])):
        at = 0
        for other in sorted(placed, key=lambda t: t.offset):
            together = born[id(other)] <= dies[key] and born[key] <= dies[id(other)]
            if together and at < other.offset + other.size_bytes and other.offset < at + tensor.size_bytes:
                at = other.offset + other.size_bytes
        tensor.offset = at
        placed.append(tensor)
    return max((t.offset + t.size_bytes for t in placed), default=64)


def _overlapped(
    network: Network, machine: Machine, owners: dict[int, Tensor], born: dict[int, int], dies: dict[int, int]
) -> int:
    """Place tensors where outputs may lie over sources; returns the arena's size in bytes."""
    number = {key: i for i, key in enumerate(owners)}
    lives = [arena.Life(tensor.size_bytes, born[key], dies[key]) for key, tensor in owners.items()]
    place = {id(t): number[id(root(t))] for op in network.ops for t in (*op.reads, op.y) if id(root(t)) in number}
    pairs = overlap.find(network.ops, place, [life.dies for life in lives], machine)
    layout = arena.lay(lives, pairs)
    for tensor, i in zip(owners.values(), range(len(lives)), strict=True):
        tensor.offset = layout.offsets[i]
    for op in network.ops:
        op.way = layout.ways.get(id(op), "")
    return max(layout.size_bytes, 64)
