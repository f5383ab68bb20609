"""Fusing: an elementwise operation moves into the operation whose output it changes, and costs no memory traffic.

Order matters little: the rules run until none applies. Each rule returns whether it changed the network.
"""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.network.graph import (
    Box,
    Conv,
    Depthwise,
    Input,
    Map,
    Move,
    Network,
    Normalise,
    Op,
    Output,
    Permute,
    Pool,
    Reduce,
    Reshape,
    Step,
    Tensor,
)  # fmt: skip

COMMUTATIVE = ("add", "mul", "min", "max")
SAVED = {"add": "add_saved", "mul": "mul_saved", "sub": "rsub_saved", "rsub": "sub_saved"}
HOSTS = (Conv, Depthwise, Map, Reduce, Pool, Normalise)


def fuse(network: Network) -> None:
    """Apply all rules until none applies."""
    rules = (
        _pool_to_reduce,
        _pad_into_conv,
        _swap_operands,
        _diamond,
        _append,
        _pad_into_add,
        _input_order,
        _reshape_chain,
        _dead,
    )
    while any(rule(network) for rule in rules):
        pass
    for op in network.ops:
        if isinstance(op, Conv):
            _fold_constants(op)


def _only_reader(network: Network, tensor: Tensor) -> Op | None:
    """Return the operation that alone reads a tensor, exactly once."""
    found = [op for op in network.ops for t in op.reads if t is tensor]
    return found[0] if len(found) == 1 else None


def _pool_to_reduce(network: Network) -> bool:
    for i, op in enumerate(network.ops):
        if isinstance(op, Pool) and op.kernel == (op.x.h, op.x.w) and not any(op.pads) and op.dilation == (1, 1):
            how = "mean" if op.mean else "max"
            network.ops[i] = Reduce(label=op.label, x=op.x, y=op.y, steps=op.steps, how=how, axis="hw")
            return True
    return False


def _pad_into_conv(network: Network) -> bool:
    """A border of zeros in front of convolutions becomes their own padding."""
    for op in network.ops:
        if not isinstance(op, Move) or op.fill != 0.0 or len(op.parts) != 1 or op.parts[0][0].c != op.y.c:
            continue
        x, box = op.parts[0]
        readers = network.readers(op.y)
        if box.step != (1, 1, 1) or box.size != (x.h, x.w, x.c) or not all(isinstance(r, Conv) for r in readers):
            continue
        top, left = box.target[:2]
        more = (top, left, op.y.h - x.h - top, op.y.w - x.w - left)
        if any(t is op.y for r in readers for t in r.reads[1:]):
            continue
        for reader in readers:
            assert isinstance(reader, Conv)
            reader.x = x
            p = [a + b for a, b in zip(reader.pads, more, strict=True)]
            reader.pads = (p[0], p[1], p[2], p[3])
        network.ops.remove(op)
        return True
    return False


def _swap_operands(network: Network) -> bool:
    """Of the two sides of an addition, the one written last by a convolution should host it."""
    for op in network.ops:
        if not isinstance(op, Map) or not op.steps or op.steps[0].name not in COMMUTATIVE:
            continue
        other = op.steps[0].operand
        if not isinstance(other, Tensor) or (other.h, other.w, other.c) != (op.x.h, op.x.w, op.x.c) or other is op.x:
            continue
        first, second = network.writer(op.x), network.writer(other)
        can_first = isinstance(first, Conv) and _only_reader(network, op.x) is op
        can_second = isinstance(second, Conv) and _only_reader(network, other) is op
        if second is None or not can_second:
            continue
        if not can_first or (first is not None and network.ops.index(second) > network.ops.index(first)):
            op.steps[0].operand, op.x = op.x, other
            return True
    return False


def _diamond(network: Network) -> bool:
    """t combined with f(t), as in SiLU, HardSwish and GELU, becomes one chain that keeps t in a register."""
    for op in network.ops:
        if not isinstance(op, Map) or not op.steps or op.steps[0].name not in SAVED:
            continue
        other = op.steps[0].operand
        if not isinstance(other, Tensor):
            continue
        for side, base, name in ((other, op.x, SAVED[op.steps[0].name]), (op.x, other, _reverse(op.steps[0].name))):
            inner = network.writer(side)
            if not isinstance(inner, Map) or inner.x is not base or _only_reader(network, side) is not op:
                continue
            if (base.h, base.w, base.c) != (op.y.h, op.y.w, op.y.c) or any(s.name == "save" for s in inner.steps):
                continue
            op.x = base
            op.steps = [Step("save"), *inner.steps, Step(name), *op.steps[1:]]
            network.ops.remove(inner)
            return True
    return False


def _reverse(name: str) -> str:
    return SAVED[{"sub": "rsub", "rsub": "sub"}.get(name, name)]


def _append(network: Network) -> bool:
    """A chain of steps moves into the operation that writes its source."""
    for op in network.ops:
        if not isinstance(op, Map):
            continue
        host = network.writer(op.x)
        if not isinstance(host, HOSTS) or _only_reader(network, op.x) is not op:
            continue
        if (op.x.h, op.x.w, op.x.c) != (op.y.h, op.y.w, op.y.c):
            continue
        if any(s.name == "save" for s in op.steps) and any(s.name == "save" for s in host.steps):
            continue
        host.steps = host.steps + op.steps
        host.y = op.y
        network.ops.remove(host)
        network.ops[network.ops.index(op)] = host
        return True
    return False


def _pad_into_add(network: Network) -> bool:
    """Zero channels behind a tensor that is only added need not exist."""
    for op in network.ops:
        if not isinstance(op, Move) or op.fill != 0.0 or len(op.parts) != 1:
            continue
        x, box = op.parts[0]
        reader = _only_reader(network, op.y)
        if box != Box((0, 0, 0), (0, 0, 0), (x.h, x.w, x.c)) or (x.h, x.w) != (op.y.h, op.y.w) or x.c == 1:
            continue
        step = next((s for s in reader.steps if s.operand is op.y), None) if reader is not None else None
        if isinstance(reader, Conv) and step is not None and step.name == "add" and x.c % 16 == 0:
            step.operand = x
            network.ops.remove(op)
            return True
    return False


def _input_order(network: Network) -> bool:
    """The caller's data is brought into order while it is taken."""
    for op in network.ops:
        if not isinstance(op, Permute):
            continue
        source = network.writer(op.x)
        if isinstance(source, Input) and _only_reader(network, op.x) is op and op.dims == source.dims:
            source.dims = tuple(op.dims[a] for a in op.axes)
            source.strides = tuple(source.strides[a] for a in op.axes)
            source.y = op.y
            network.ops.remove(op)
            return True
    return False


def _reshape_chain(network: Network) -> bool:
    for op in network.ops:
        if isinstance(op, Reshape):
            before = network.writer(op.x)
            if isinstance(before, Reshape):
                op.x = before.x
                return True
            if (op.x.h, op.x.w, op.x.c) == (op.y.h, op.y.w, op.y.c):
                for reader in network.ops:
                    reader.replace(op.y, op.x)
                network.ops.remove(op)
                return True
    return False


def _dead(network: Network) -> bool:
    read = {id(t) for op in network.ops for t in op.reads}
    kept = [op for op in network.ops if id(op.y) in read or isinstance(op, (Output, Input))]
    changed = len(kept) != len(network.ops)
    network.ops[:] = kept
    return changed


def _fold_constants(op: Conv) -> None:
    """Factors and terms for each channel right after a convolution go into its weights and bias."""
    while op.steps:
        name, operand = op.steps[0].name, op.steps[0].operand
        if (
            name not in ("mul", "add", "sub", "div")
            or not isinstance(operand, np.ndarray)
            or operand.shape[:2] != (1, 1)
        ):
            return
        row = operand.ravel().astype(np.float64)
        if name in ("mul", "div"):
            factor = row if name == "mul" else 1 / row
            op.weight = (op.weight * factor).astype(np.float32)
            op.bias = (op.bias * factor).astype(np.float32)
        else:
            op.bias = (op.bias + (row if name == "add" else -row)).astype(np.float32)
        op.steps.pop(0)
