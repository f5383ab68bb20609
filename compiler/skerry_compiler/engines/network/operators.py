"""Every operator of the engine: its handler by ONNX's name."""

from __future__ import annotations

from skerry_compiler.engines.network import (
    read_fold,
    read_index,
    read_linear,
    read_map,
    read_norm,
    read_pool,
    read_quantised,
    read_recurrent,
    read_resize,
    read_shape,
    read_typed,
    read_view,
    read_window,
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
    read_window.HANDLERS,
    read_recurrent.HANDLERS,
    read_resize.HANDLERS,
    read_norm.HANDLERS,
    read_fold.HANDLERS,
    read_quantised.HANDLERS,
)
OTHER: dict[str, Handler] = {**read_typed.OTHER, **read_fold.OTHER}


def either(single: Handler, other: Handler) -> Handler:
    """Return the handler that takes one way where all inputs are float32, and another where any is not."""

    def handle(reader: Reader, node: Node) -> None:
        kinds = {reader.kind(node, i) for i in range(len(node.inputs)) if node.given(i)}
        (single if kinds == {"float32"} else other)(reader, node)

    return handle


HANDLERS: dict[str, Handler] = {name: handler for known in KNOWN for name, handler in known.items()}
HANDLERS |= {name: either(HANDLERS[name], handler) if name in HANDLERS else handler for name, handler in OTHER.items()}
