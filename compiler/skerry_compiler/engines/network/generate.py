"""The whole way: model -> network -> fused -> (quantised) -> planned -> C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from skerry_compiler.engines.network import curves, halves
from skerry_compiler.engines.network.calibrate import Ranges
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit import Source, emit
from skerry_compiler.engines.network.fuse import fuse
from skerry_compiler.engines.network.graph import Conv, Network
from skerry_compiler.engines.network.operators import HANDLERS
from skerry_compiler.engines.network.plan import plan
from skerry_compiler.engines.network.quantise import Precision, quantise
from skerry_compiler.engines.network.read import read
from skerry_compiler.engines.network.tidy import tidy
from skerry_compiler.engines.network.winograd import choose
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.passes.single_form import single

MAX_OPERATIONS = 4096  # fusing takes the square of them, and half a minute for so many


def network_of(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]] | None = None) -> Network:
    """Return the fused network of a model.

    Raises:
        UnsupportedError: a node that cannot be generated.
    """
    network = read(single(model), HANDLERS, shapes)
    if len(network.ops) > MAX_OPERATIONS:
        raise UnsupportedError(f"{len(network.ops)} operations, of which generated code takes {MAX_OPERATIONS} at most")
    tidy(network)
    fuse(network)
    return network


def generate(
    model: onnx.ModelProto,
    machine: Machine,
    *,
    ranges: Ranges | None = None,
    precision: Precision | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    tiles: bool = False,
    pairs: bool = False,
    scales: Mapping[str, NDArray[np.float64]] | None = None,
) -> Source:
    """Return C for a model: float32, or with bytes where `ranges` and `precision` say so, those of weights in `scales`
    (a layer's name: one for each output channel) where they are given; with 3x3 convolutions in Winograd's form where
    `tiles` allows it and it pays, the others in bfloat16 where `pairs` does.
    """
    network = network_of(model, shapes)
    if ranges is not None:
        quantise(network, ranges, precision or Precision())
        for op in network.ops:
            if isinstance(op, Conv) and op.int8 and scales is not None:
                op.scale = scales.get(op.label)
    curves.choose(network, machine)
    if tiles:
        choose(network, machine)
    if pairs:
        halves.choose(network, machine)
    arena_bytes = plan(network, machine)
    return emit(network, arena_bytes, machine)
