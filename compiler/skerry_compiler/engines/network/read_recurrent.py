"""Reading LSTM, GRU and RNN: the inputs' product becomes a dense layer over all steps, the rest one operation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.emit_recurrent import ACTIVATIONS
from skerry_compiler.engines.network.graph import Box, Conv, Move, Tensor
from skerry_compiler.engines.network.loops import Source
from skerry_compiler.engines.network.read import Handler, Node, Reader
from skerry_compiler.engines.network.recurrent import GATES, Recurrent
from skerry_compiler.engines.network.values import Value, fold, identity

WIDEST = 16  # lanes; padding to it fits every machine
DEFAULTS = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}


def recurrent(reader: Reader, node: Node) -> None:
    """LSTM, GRU and RNN with constant weights, in any direction, with initial values and constant lengths."""
    cell = node.op_type.lower()
    gates, swap = GATES[cell], bool(node.attributes.get("layout", 0))
    weight, inner = (reader.constant(node, i).astype(np.float32) for i in (1, 2))
    directions, hidden = weight.shape[0], inner.shape[2]
    functions = _functions(node, cell, directions)
    value = reader.value(node, 0)
    if swap:
        value = _swapped(value)
    steps, batch, inputs = value.shape
    padded = -(-hidden // WIDEST) * WIDEST if hidden > WIDEST else 1 << (hidden - 1).bit_length()
    padded = max(padded, 4)

    def spread(array: NDArray[Any]) -> NDArray[np.float32]:
        """[directions, gates * hidden, ...] with every gate padded."""
        parts = array.reshape(directions, -1, hidden, *array.shape[2:])
        room = [(0, 0), (0, 0), (0, padded - hidden)] + [(0, 0)] * (parts.ndim - 3)
        return np.pad(parts, room).reshape(directions, -1, *array.shape[2:])

    bias = reader.constant(node, 3).astype(np.float32) if node.given(3) else np.zeros((directions, 2 * gates * hidden))
    outer, own = (spread(b) for b in np.split(bias, 2, axis=1))
    inner_bias = None
    if cell == "gru" and node.attributes.get("linear_before_reset", 0):
        inner_bias = np.ascontiguousarray(own[:, 2 * padded :], np.float32)
        own = np.concatenate([own[:, : 2 * padded], np.zeros_like(inner_bias)], 1)
    columns = np.moveaxis(spread(weight), 2, 0).reshape(inputs, -1)
    x = reader.layouts.tensor(value, identity(3), (1, steps * batch, inputs))
    projected = Tensor(f"{node.outputs[0]}/projected", 1, steps * batch, columns.shape[1])
    whole = (outer + own).ravel().astype(np.float32)
    reader.add(Conv(label=node.name, x=x, y=projected, weight=np.ascontiguousarray(columns)[None, None], bias=whole))
    count = directions * batch * hidden
    y = Tensor(f"{next(o for o in node.outputs if o)}/states", 1, 1, steps * count + count * (1 + (cell == "lstm")))
    peep = spread(reader.constant(node, 7).astype(np.float32)) if cell == "lstm" and node.given(7) else None
    reverse = (node.attributes.get("direction", "forward") == "reverse", True)[:directions]
    packed = np.ascontiguousarray(spread(inner).transpose(0, 2, 1))
    reader.add(
        Recurrent(
            label=node.name, x=projected, y=y, cell=cell, sizes=(steps, batch, hidden, padded),
            weight=packed, reverse=reverse, functions=functions, lengths=_lengths(reader, node, steps, batch),
            first=_first(reader, node, 5, swap),
            first_cell=_first(reader, node, 6, swap) if cell == "lstm" else None, inner_bias=inner_bias,
            peepholes=None if peep is None else np.ascontiguousarray(peep),
        )
    )  # fmt: skip
    _outputs(reader, node, y, (steps, batch, directions, hidden), swap)


def _outputs(reader: Reader, node: Node, y: Tensor, sizes: tuple[int, int, int, int], swap: bool) -> None:
    """Cut the states into the outputs that are asked for."""
    steps, batch, directions, hidden = sizes
    count = directions * batch * hidden
    for index, (at, shape) in enumerate(
        ((0, (steps, batch, directions, hidden)), (steps * count, (directions, batch, hidden)),
         ((steps + 1) * count, (directions, batch, hidden)))
    ):  # fmt: skip
        if len(node.outputs) <= index or not node.outputs[index]:
            continue
        size = math.prod(shape)
        part = Tensor(node.outputs[index], *fold(shape))
        flat = Tensor(f"{node.outputs[index]}/flat", 1, 1, size)
        reader.add(Move(label=node.name, y=flat, parts=[(y, Box((0, 0, at), (0, 0, 0), (1, 1, size)))]))
        part = reader.layouts.shaped(flat, part.h, part.w, part.c)
        if index == 0:  # in memory as computed; ONNX has directions before the batch
            order = (0, 2, 1, 3)
            value = Value(part, (steps, directions, batch, hidden), order)
            if swap:
                value = Value(part, (batch, steps, directions, hidden), (1, 0, 2, 3))
        else:
            value = Value(part, shape, identity(3))
            value = _swapped(value) if swap else value
        reader.values[node.outputs[index]] = value


def _swapped(value: Value) -> Value:
    """Return a value with its first two axes exchanged."""
    turn = (1, 0, *range(2, len(value.shape)))
    return Value(value.tensor, tuple(value.shape[a] for a in turn), tuple(turn.index(a) for a in value.order))


def _functions(node: Node, cell: str, directions: int) -> tuple[tuple[str, ...], ...]:
    """Return the activations of each direction.

    Raises:
        UnsupportedError: an attribute or activation that the engine does not have.
    """
    for name, harmless in (("clip", None), ("input_forget", 0), ("activation_alpha", None), ("activation_beta", None)):
        if node.attributes.get(name, harmless) != harmless:
            raise node.fail(f"the attribute {name}")
    names = [n.decode() if isinstance(n, bytes) else n for n in node.attributes.get("activations") or []]
    known = {n.lower(): n for n in ACTIVATIONS}
    for name in names:
        if name.lower() not in known:
            raise node.fail(f"the activation {name}; {', '.join(ACTIVATIONS)} are supported")
    names = [known[n.lower()] for n in names] or list(DEFAULTS[cell]) * directions
    each = len(names) // directions
    return tuple(tuple(names[d * each : (d + 1) * each]) for d in range(directions))


def _lengths(reader: Reader, node: Node, steps: int, batch: int) -> tuple[int, ...]:
    if not node.given(4):
        return (steps,) * batch
    return tuple(int(n) for n in reader.constant(node, 4))


def _first(reader: Reader, node: Node, index: int, swap: bool) -> Source | None:
    """Return initial values [directions, batch, hidden]."""
    if not node.given(index):
        return None
    value = reader.value(node, index)
    value = _swapped(value) if swap else value
    return reader.layouts.ordered(value, identity(3)).tensor


HANDLERS: dict[str, Handler] = {"LSTM": recurrent, "GRU": recurrent, "RNN": recurrent}
