"""Outputs whose extents hang on the inputs' values (how many boxes were found) get a fixed capacity: the answer stands
at the front, zeros fill the rest, and a second output NAME.shape says how much of it counts.

So every engine keeps its fixed buffers, and nothing is allocated on a device while it runs. What exceeds the capacity
is cut off; NAME.shape still tells the whole extents, so a caller sees that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from skerry_compiler import graph as graphs
from skerry_compiler.errors import ModelError, UnsupportedError

SUFFIX = ".shape"
MIN_OPSET = 11  # Pad takes its amounts as a tensor
# Extents that no shape tells: they are counted while the model runs.
_COUNTED = frozenset(["NonZero", "NonMaxSuppression", "Unique", "Compress", "Loop", "If", "StringSplit"])
_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
    *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
# Operators whose extents follow from the values of some inputs, and which inputs those are.
_SHAPED_BY: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1, 2),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
} | dict.fromkeys(_REDUCTIONS, (1,))
# ONNX Runtime's Pad on a processor does not take these; a wider type holds them exactly.
_WIDER = {
    TensorProto.FLOAT16: TensorProto.FLOAT,
    TensorProto.INT16: TensorProto.INT32,
    TensorProto.UINT16: TensorProto.INT32,
}


def open_outputs(model: ModelProto) -> list[str]:
    """Return the outputs whose extents hang on values, in order; the model has gone through constant folding."""
    known = {each.name for each in model.graph.initializer}
    tainted: set[str] = set()
    for node in model.graph.node:
        deciding = [node.input[place] for place in _SHAPED_BY.get(node.op_type, ()) if place < len(node.input)]
        hangs = node.op_type in _COUNTED or any(name and name not in known for name in deciding)
        if hangs or not tainted.isdisjoint(node.input):
            tainted.update(node.output)
    return [value.name for value in model.graph.output if value.name in tainted and not _fixed(graphs.shape_of(value))]


def _version(model: ModelProto) -> int:
    return max((each.version for each in model.opset_import if not each.domain), default=0)


def _fixed(shape: tuple[int | str, ...] | None) -> bool:
    return shape is not None and all(isinstance(extent, int) and extent >= 0 for extent in shape)


class OpenOutputs:
    """`capacities` maps each open output to the largest shape that it is to hold."""

    name = "open-outputs"

    def __init__(self, capacities: Mapping[str, tuple[int, ...]]) -> None:
        self.capacities = capacities

    def requires(self, model: ModelProto) -> str | None:
        """Nothing to do, an opset whose Pad takes tensors, or a model that can be said in one."""
        if not self.capacities or _version(model) >= MIN_OPSET:
            return None
        try:
            onnx.version_converter.convert_version(model, MIN_OPSET)
        except (RuntimeError, ValueError, onnx.version_converter.ConvertError):
            return f"opset {_version(model)} has no Pad with tensors"
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the module's text.

        Raises:
            ModelError: the name of the second output is taken.
            UnsupportedError: an open output of a type that cannot be padded.
        """
        if self.capacities and _version(model) < MIN_OPSET:
            model = onnx.version_converter.convert_version(model, MIN_OPSET)
        for name, capacity in self.capacities.items():
            self._pad(model, name, capacity)
        return model

    def ensures(self, model: ModelProto) -> str | None:
        """Every open output has its shape beside it."""
        there = {value.name for value in model.graph.output}
        missing = [name for name in self.capacities if not {name, name + SUFFIX} <= there]
        return f"output {missing[0]} has no shape beside it" if missing else None

    def _pad(self, model: ModelProto, name: str, capacity: tuple[int, ...]) -> None:
        graph = model.graph
        at = [value.name for value in graph.output].index(name)
        element = graph.output[at].type.tensor_type.elem_type
        if element not in graphs.DTYPES:
            raise UnsupportedError(f"output {name!r:.80} is no tensor of numbers")
        if any(each.name == name + SUFFIX for each in [*graph.input, *graph.output]):
            raise ModelError(f"the name {name + SUFFIX!r:.80} is taken", hint="rename that tensor and export again")
        inner = f"{name}{SUFFIX}/"
        for node in graph.node:
            for names in (node.input, node.output):
                for place, each in enumerate(names):
                    if each == name:
                        names[place] = inner + "value"
        _rename_inside(model, name, inner + "value")
        rank = len(capacity)
        graphs.add_constant(graph, inner + "capacity", np.array(capacity, np.int64))
        graphs.add_constant(graph, inner + "before", np.zeros(rank, np.int64))
        wide = _WIDER.get(element, element)
        source = inner + "value" if wide == element else inner + "wide"
        padded = name if wide == element else inner + "padded"
        graph.node.append(helper.make_node("Shape", [inner + "value"], [name + SUFFIX]))
        graph.node.append(helper.make_node("Sub", [inner + "capacity", name + SUFFIX], [inner + "after"]))
        graph.node.append(helper.make_node("Concat", [inner + "before", inner + "after"], [inner + "amounts"], axis=0))
        if wide != element:
            graph.node.append(helper.make_node("Cast", [inner + "value"], [source], to=wide))
        graph.node.append(helper.make_node("Pad", [source, inner + "amounts"], [padded]))
        if wide != element:
            graph.node.append(helper.make_node("Cast", [padded], [name], to=element))
        graph.output[at].CopyFrom(helper.make_tensor_value_info(name, element, capacity))
        graph.output.insert(at + 1, helper.make_tensor_value_info(name + SUFFIX, TensorProto.INT64, [rank]))


def _rename_inside(model: ModelProto, old: str, new: str) -> None:
    """Rename a value where graphs inside nodes read it from outside."""
    for graph in graphs.walk(model.graph):
        if graph is not model.graph:
            for node in graph.node:
                for place, each in enumerate(node.input):
                    if each == old:
                        node.input[place] = new
