"""Reading operators that only look at data otherwise: reshapes and transposes, free where the memory order allows."""

from __future__ import annotations

import math

import numpy as np

from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.values import Value


def reshape(reader: Reader, node: Node) -> None:
    """Reshape to a constant shape."""
    value = reader.typed(node, 0)
    want = [int(n) for n in reader.constant(node, 1).tolist()] if node.given(1) else list(node.attributes["shape"])
    if not node.attributes.get("allowzero", 0):
        want = [value.shape[i] if n == 0 else n for i, n in enumerate(want)]
    if -1 in want:
        want[want.index(-1)] = math.prod(value.shape) // max(1, -math.prod(want))
    if math.prod(want) != math.prod(value.shape):
        raise node.fail(f"{value.shape} as {want}")
    reader.view(node, reader.layouts.reshaped(value, tuple(want)))


def flatten(reader: Reader, node: Node) -> None:
    """Flatten."""
    value = reader.typed(node, 0)
    axis = node.attributes.get("axis", 1)
    axis = axis + len(value.shape) if axis < 0 else axis
    shape = (math.prod(value.shape[:axis]), math.prod(value.shape[axis:]))
    reader.view(node, reader.layouts.reshaped(value, shape))


def squeeze(reader: Reader, node: Node) -> None:
    """Squeeze."""
    value = reader.typed(node, 0)
    axes = node.attributes.get("axes") or (reader.constant(node, 1).tolist() if node.given(1) else None)
    rank = len(value.shape)
    gone = {a % rank for a in axes} if axes is not None else {a for a, n in enumerate(value.shape) if n == 1}
    reader.view(node, reader.layouts.reshaped(value, tuple(n for a, n in enumerate(value.shape) if a not in gone)))


def unsqueeze(reader: Reader, node: Node) -> None:
    """Unsqueeze."""
    value = reader.typed(node, 0)
    axes = node.attributes.get("axes") or reader.constant(node, 1).tolist()
    rank = len(value.shape) + len(axes)
    new = {a % rank for a in axes}
    sizes = iter(value.shape)
    reader.view(node, reader.layouts.reshaped(value, tuple(1 if a in new else next(sizes) for a in range(rank))))


def transpose(reader: Reader, node: Node) -> None:
    """Transpose: only the view changes."""
    value = reader.typed(node, 0)
    perm = node.attributes.get("perm") or list(reversed(range(len(value.shape))))
    shape = tuple(value.shape[a] for a in perm)
    reader.view(node, Value(value.tensor, shape, tuple(perm.index(a) for a in value.order)))


def depth_to_space(reader: Reader, node: Node) -> None:
    """DepthToSpace: a reshape, a transpose and a reshape."""
    value = reader.typed(node, 0)
    n, c, h, w = value.shape
    b = node.attributes["blocksize"]
    crd = node.attributes.get("mode", "DCR") == "CRD"
    split_shape = (n, c // b // b, b, b, h, w) if crd else (n, b, b, c // b // b, h, w)
    perm = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    value = reader.layouts.reshaped(value, split_shape)
    shape = tuple(value.shape[a] for a in perm)
    value = Value(value.tensor, shape, tuple(perm.index(a) for a in value.order))
    reader.view(node, reader.layouts.reshaped(value, (n, c // b // b, h * b, w * b)))


def space_to_depth(reader: Reader, node: Node) -> None:
    """SpaceToDepth: a reshape, a transpose and a reshape."""
    value = reader.typed(node, 0)
    n, c, h, w = value.shape
    b = node.attributes["blocksize"]
    value = reader.layouts.reshaped(value, (n, c, h // b, b, w // b, b))
    crd = node.attributes.get("mode", "DCR") == "CRD"
    perm = (0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4)
    shape = tuple(value.shape[a] for a in perm)
    value = Value(value.tensor, shape, tuple(perm.index(a) for a in value.order))
    reader.view(node, reader.layouts.reshaped(value, (n, c * b * b, h // b, w // b)))


def same(reader: Reader, node: Node) -> None:
    """Operators that change nothing at inference."""
    if node.op_type == "Dropout":
        if node.given(2) and bool(reader.constant(node, 2).item()):
            raise node.fail("training")
        if len(node.outputs) > 1 and node.outputs[1]:
            reader.constants[node.outputs[1]] = np.ones(reader.shape(node, 0), bool)
    reader.view(node, reader.typed(node, 0))


HANDLERS: dict[str, Handler] = {
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth, "Identity": same, "Dropout": same,
}  # fmt: skip
