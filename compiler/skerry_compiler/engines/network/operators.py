"""Every operator of the engine: its handler by ONNX's name."""

from __future__ import annotations

from skerry_compiler.engines.network import (
    read_index,
    read_linear,
    read_map,
    read_pool,
    read_shape,
    read_typed,
    read_view,
)
from skerry_compiler.engines.network.read import Handler, Node, Reader

KNOWN: tuple[dict[str, Handler], ...] = (
    read_linear.HANDLERS,
    read_map.HANDLERS,
    read_pool.HANDLERS,
    read_shape.HANDLERS,
    read_view.HANDLERS,
    read_typed.HANDLERS,
    read_index.HANDLERS,
)
OTHER: dict[str, Handler] = {**read_typed.OTHER}


def either(single: Handler, other: Handler) -> Handler:
    """Return the handler that takes one way where all inputs are float32, and another where any is not."""

    def handle(reader: Reader, node: Node) -> None:
        kinds = {reader.kind(node, i) for i in range(len(node.inputs)) if node.given(i)}
        (single if kinds == {"float32"} else other)(reader, node)

    return handle


HANDLERS: dict[str, Handler] = {name: handler for known in KNOWN for name, handler in known.items()}
HANDLERS |= {name: either(HANDLERS[name], handler) if name in HANDLERS else handler for name, handler in OTHER.items()}
