"""Tidying before fusing: conversions of the caller's types happen while the caller's data is taken."""

from __future__ import annotations

from skerry_compiler.engines.network.graph import Input, Network
from skerry_compiler.engines.network.loops import Access, Loops
from skerry_compiler.engines.network.read_typed import cast_text


def tidy(network: Network) -> None:
    """Apply every rule once: none makes work for another."""
    _casts_of_inputs(network)


def _casts_of_inputs(network: Network) -> None:
    """A Cast to float32 that alone reads an input becomes part of it, as images of bytes have it."""
    for op in list(network.ops):
        if not isinstance(op, Loops) or len(op.operands) != 1 or op.folds or op.y.kind != "float32":
            continue
        source = next((i for i in network.ops if isinstance(i, Input) and i.y is op.operands[0]), None)
        if source is None or source.given == "float32" or op.text != cast_text(source.given, "float32"):
            continue
        alone = network.readers(source.y) == [op]
        same = op.access[0] == op.target and op.base is None and not op.target.indices and op.target.start == 0
        if alone and same and _dense(op.target, op.dims):
            source.y = op.y
            network.ops.remove(op)


def _dense(walk: Access, dims: tuple[int, ...]) -> bool:
    """Whether a walk goes from element to element."""
    step = 1
    for size, stride in zip(reversed(dims), reversed(walk.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True
