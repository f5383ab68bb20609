"""Recurrent layers: what repeats for every step; the product of inputs and weights is a dense layer before it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.graph import Array, Op
from skerry_compiler.engines.network.loops import Source
from skerry_compiler.engines.network.tensors import Tensor

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Recurrent(Op):
    """A recurrent layer over projected inputs x f32[steps, batch, directions, gates, padded].

    y f32[n] holds the hidden values [steps, batch, directions, hidden], then the last hidden values and, of an LSTM,
    the last cells, [directions, batch, hidden] each.

    Attributes:
        cell: "lstm" (gates i, o, f, c as ONNX orders them), "gru" (z, r, h) or "rnn".
        sizes: steps, batch, hidden, padded (hidden up to a whole number of vectors).
        weight: f32[directions, hidden, gates * padded], of the hidden values.
        reverse: for each direction whether it walks backwards.
        functions: for each direction the names of its activations.
        lengths: steps of each sequence of the batch.
        first, first_cell: initial values [directions, batch, hidden], None for zeros.
        inner_bias: of the recurrent part of the GRU's h gate, f32[directions, padded], where reset comes after the
            product; else None.
        peepholes: f32[directions, 3, padded] of an LSTM (i, o, f), or None.
    """

    x: Tensor
    cell: str
    sizes: tuple[int, int, int, int]
    weight: Array
    reverse: tuple[bool, ...]
    functions: tuple[tuple[str, ...], ...]
    lengths: tuple[int, ...]
    first: Source | None = None
    first_cell: Source | None = None
    inner_bias: NDArray[np.float32] | None = None
    peepholes: NDArray[np.float32] | None = None

    @property
    def sources(self) -> list[Tensor]:
        """See Op."""
        return [t for t in (self.x, self.first, self.first_cell) if isinstance(t, Tensor)]

    @property
    def dense(self) -> bool:
        """See Op."""
        return True
