"""Models in old words are brought up: ONNX Runtime runs little below opset 7, per-channel scales come with 13,
LayerNormalization with 17.

ONNX's own converter begins where shapes can be inferred, which is opset 6; what changed before is rewritten here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from skerry_compiler import graph as graphs
from skerry_compiler.errors import ModelError
from skerry_compiler.passes.fixed_shapes import inferred
from skerry_compiler.passes.pattern import View, opset

FIRST = 6  # the oldest opset that the converter brings up
MIN_IR = 4  # initializers need not be inputs
RTOL = 1e-5


class OpsetLift:
    """`to` is the opset to reach. A model stays as it is where the converter fails, or where ONNX Runtime then answers
    otherwise on one made-up row (it is asked only where it runs the model at all).
    """

    name = "opset-lift"

    def __init__(self, to: int) -> None:
        self.to = to

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class."""
        version = opset(model)
        if not 0 < version < self.to or any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
            return model
        start = ModelProto()
        start.CopyFrom(model)
        start.ir_version = max(start.ir_version, MIN_IR)
        try:
            if version < FIRST:
                start = inferred(_six(start))
            lifted = onnx.version_converter.convert_version(start, self.to)
        except (RuntimeError, ValueError, ModelError, onnx.version_converter.ConvertError):
            return model
        names = [value.name for value in (*model.graph.input, *model.graph.output)]
        if names != [value.name for value in (*lifted.graph.input, *lifted.graph.output)]:
            return model
        return lifted if _same(model, lifted) else model

    def ensures(self, model: ModelProto) -> str | None:
        """Nothing to promise: what cannot be lifted stays."""
        return None


def _six(model: ModelProto) -> ModelProto:
    """Rewrite what changed up to opset 6 (onnx/docs/Changelog.md, versions 1 to 6)."""
    version, view = opset(model), View(model)
    for node in model.graph.node:
        attributes = graphs.attributes(node)
        attributes.pop("consumed_inputs", None)
        if version < 2 and node.op_type == "Pad" and "paddings" in attributes:
            attributes["pads"] = attributes.pop("paddings")
        if version < 4 and node.op_type == "Concat":
            attributes.setdefault("axis", 1)
        if node.op_type == "Cast" and isinstance(attributes.get("to"), bytes):
            attributes["to"] = TensorProto.DataType.Value(graphs.text(attributes["to"]).upper())
        if version < 5 and node.op_type == "Reshape" and "shape" in attributes:
            name = f"{node.output[0]}/extents"
            graphs.add_constant(model.graph, name, np.array(attributes.pop("shape"), np.int64))
            node.input.append(name)
        if node.op_type == "Tile" and len(node.input) == 3:
            _tile(view, node)
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(key, each) for key, each in sorted(attributes.items()))
    for each in model.opset_import:
        if each.domain in ("", "ai.onnx"):
            each.version = FIRST
    return model


def _tile(view: View, node: NodeProto) -> None:
    """Tile of one axis becomes Tile of all."""
    shape = view.shape(node.input[0])
    times, axis = (view.array(name) for name in node.input[1:])
    if shape is None or times is None or axis is None:
        raise ModelError("a Tile whose axis is computed")
    repeats = np.ones(len(shape), np.int64)
    repeats[int(axis.reshape(-1)[0])] = int(times.reshape(-1)[0])
    name = f"{node.output[0]}/repeats"
    graphs.add_constant(view.model.graph, name, repeats)
    del node.input[1:]
    node.input.append(name)


def _same(before: ModelProto, after: ModelProto) -> bool:
    """Whether ONNX Runtime answers alike for both; yes where it runs only the newer."""
    expected = _answers(before)
    found = _answers(after)
    if found is None or expected is None:
        return found is not None or expected is None
    return len(found) == len(expected) and all(
        one.shape == two.shape and one.dtype == two.dtype and _near(one, two)
        for one, two in zip(expected, found, strict=True)
    )


def _near(one: np.ndarray, two: np.ndarray) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, two))
    scale = float(np.max(np.abs(one[np.isfinite(one)]), initial=0.0))
    return bool(np.allclose(one, two, rtol=RTOL, atol=RTOL * scale, equal_nan=True))


def _answers(model: ModelProto) -> list[np.ndarray] | None:
    """Return ONNX Runtime's answers on a made-up row, the same every time; None where it does not run the model."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    random = np.random.default_rng(20_261_126)
    feeds: dict[str, Any] = {}
    for value in model.graph.input:
        shape = tuple(each if isinstance(each, int) and each > 0 else 1 for each in graphs.shape_of(value) or ())
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        real = kind.kind == "f"
        feeds[value.name] = (random.normal(size=shape) if real else random.integers(0, 2, shape)).astype(kind)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(each) for each in session.run(None, feeds)]
    except (state.Fail, state.InvalidGraph, state.InvalidArgument, state.NotImplemented, state.RuntimeException,
            state.InvalidProtobuf, RuntimeError, ValueError):  # fmt: skip
        return None
