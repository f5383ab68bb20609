"""A network that came quantised: its float form, and the ranges that its own scales stand for.

A pair of QuantizeLinear and DequantizeLinear in a graph says that a tensor has bytes of one scale and zero point, that
is a range. Without the pairs the graph is a float network whose ranges are given rather than calibrated.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto

from skerry_compiler import graph as graphs
from skerry_compiler.engines.candidate import GIVEN, Draft, Failure
from skerry_compiler.engines.network import engine
from skerry_compiler.engines.network.calibrate import Ranges
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.engines.network.quantise import Precision
from skerry_compiler.errors import UnsupportedError
from skerry_targets.profile import Profile

ENGINE = "native"
BYTES = (np.uint8, np.int8)


def unquantised(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Ranges]:
    """Return a model without its pairs of QuantizeLinear and DequantizeLinear, and the ranges that they give, by the
    name of the tensor that is left. No ranges: the model has no such pairs of bytes, and is returned as it is.
    """
    constants = graphs.constants(model)
    made = {name: node for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    renamed: dict[str, str] = {}
    ranges: dict[str, tuple[float, float]] = {}
    gone: set[str] = set()
    for node in model.graph.node:
        source = made.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is None or source.op_type != "QuantizeLinear" or node.output[0] in outputs:
            continue
        span = _range(node, source, constants)
        if span is None:
            continue
        origin = renamed.get(source.input[0], source.input[0])
        renamed[node.output[0]] = origin
        low, high = ranges.get(origin, span)
        ranges[origin] = (min(low, span[0]), max(high, span[1]))
        gone.add(node.output[0])
    if not ranges:
        return model, {}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graphs.remove_nodes(copy.graph, [node for node in copy.graph.node if node.output and node.output[0] in gone])
    for node in copy.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    uses = graphs.uses(copy.graph)
    unused = [node for node in copy.graph.node if node.op_type == "QuantizeLinear" and not uses[node.output[0]]]
    graphs.remove_nodes(copy.graph, unused)
    del copy.graph.value_info[:]
    return copy, ranges


def _range(node: NodeProto, source: NodeProto, constants: dict[str, np.ndarray]) -> tuple[float, float] | None:
    """Return the range of a pair's bytes; None where its halves differ, or are of several scales or other types."""
    if len(node.input) < 3 or len(source.input) < 3:
        return None
    pairs = [[constants.get(name) for name in each.input[1:3]] for each in (source, node)]
    (scale, point), other = pairs
    if scale is None or point is None or scale.size != 1 or point.dtype.type not in BYTES:
        return None
    if any(b is None or not np.array_equal(a, b) for a, b in zip((scale, point), other, strict=True)):
        return None
    least, most = np.iinfo(point.dtype).min, np.iinfo(point.dtype).max
    step, zero = float(scale.reshape(-1)[0]), int(point.reshape(-1)[0])
    return (least - zero) * step, (most - zero) * step


def candidates(model: onnx.ModelProto, profile: Profile, threads: int = 1) -> list[Draft | Failure]:
    """Return the candidate that computes in the file's own bytes; none where the model came in float."""
    if any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        return []
    plain, ranges = unquantised(model)
    if not ranges:
        return []
    try:
        source = generate(plain, machine_of(profile, threads), ranges=ranges, precision=Precision())
    except UnsupportedError as error:
        return [Failure(GIVEN, ENGINE, "int8", str(error), error.nodes)]
    return [engine.draft(GIVEN, "int8", source, profile, 1)]
