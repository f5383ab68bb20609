"""Each pass does what it promises, and the model still answers the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler import graph as graphs
from skerry_compiler.errors import CompileError, ModelError
from skerry_compiler.passes import base
from skerry_compiler.passes.constant_fold import ConstantFold
from skerry_compiler.passes.dead_code import DeadCode
from skerry_compiler.passes.fixed_shapes import FixedShapes
from skerry_compiler.passes.opset_cap import OpsetCap
from skerry_compiler.passes.plain_form import PlainForm
from skerry_compiler.passes.quantise import QuantiseU8S8
from skerry_compiler.passes.tensor_outputs import TensorOutputs

FLOAT = TensorProto.FLOAT


def value(name: str, shape: list[int | str | None], kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    **weights: np.ndarray,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(content, name) for name, content in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, producer_name="a tool")


def run(built: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, feeds)]


def test_plain_form() -> None:
    constant = helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0])
    weights = {"w": np.array([3.0, 4.0], np.float32)}
    nodes = [constant, helper.make_node("Add", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "c"], ["y"])]
    before = model(nodes, [value("x", [1, 2]), value("w", [2])], [value("y", [1, 2])], **weights)
    x = np.ones((1, 2), np.float32)
    expected = run(before, x=x)
    after = base.run_all(before, [PlainForm()])
    assert [each.name for each in after.graph.input] == ["x"]
    assert {each.op_type for each in after.graph.node} == {"Add", "Mul"} and after.producer_name == ""
    np.testing.assert_array_equal(run(after, x=x), expected)


def test_plain_form_keeps_a_number_a_number() -> None:
    """A Constant without axes that gains one makes shapes of shapes, as once in a face detector's Reshape."""
    scalar = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.array(4, np.int64)))
    shape = helper.make_node("Unsqueeze", ["k"], ["s"], axes=[0])
    nodes = [scalar, shape, helper.make_node("Reshape", ["x", "s"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", [1, 4])], [value("y", [4])])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    (stored,) = PlainForm().run(before).graph.initializer
    assert numpy_helper.to_array(stored).shape == ()


def test_zipmap_and_text_labels_become_tensors() -> None:
    attributes: dict[str, Any] = {
        "coefficients": [1.0, -1.0, 0.5, 2.0, 0.0, -3.0],
        "intercepts": [0.0, 0.1, 0.2],
        "post_transform": "SOFTMAX",
    }
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            classlabels_strings=["no", "yes", "maybe"],
            **attributes,
        ),
        helper.make_node(
            "ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["no", "yes", "maybe"]
        ),
    ]
    maps = helper.make_value_info(
        "maps",
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
        ),
    )
    before = model(nodes, [value("x", [1, 2])], [value("label", [1], TensorProto.STRING), maps])
    x = np.array([[2.0, 1.0]], np.float32)
    session = onnxruntime.InferenceSession(before.SerializeToString(), providers=["CPUExecutionProvider"])
    label, (scores,) = session.run(None, {"x": x})
    work = TensorOutputs()
    after = base.run_all(before, [work])
    assert work.labels == ("no", "yes", "maybe")
    found = run(after, x=x)
    assert work.labels[int(found[0][0])] == label[0]
    np.testing.assert_allclose(found[1][0], [scores[name] for name in work.labels])


def test_text_outputs_of_other_making_are_refused() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)]
    with pytest.raises(ModelError, match="is text"):
        base.run_all(model(nodes, [value("x", [1])], [value("y", [1], TensorProto.STRING)]), [TensorOutputs()])


def test_fixed_shapes_from_batch_and_options() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    open_batch = model(nodes, [value("x", ["n", 3])], [value("y", ["n", 3])])
    fixed = base.run_all(open_batch, [FixedShapes({})])
    assert graphs.static_shape(fixed.graph.input[0]) == (1, 3) == graphs.static_shape(fixed.graph.output[0])
    open_more = model(nodes, [value("x", ["n", "h", 3])], [value("y", None)])  # type: ignore[arg-type]  # no shape at all
    with pytest.raises(ModelError, match="more than the batch") as caught:
        base.run_all(open_more, [FixedShapes({})])
    assert "--shape x=" in caught.value.hint
    fixed = base.run_all(open_more, [FixedShapes({"x": (2, 5, 3)})])
    assert graphs.static_shape(fixed.graph.output[0]) == (2, 5, 3)
    with pytest.raises(ModelError, match="does not fit"):
        base.run_all(model(nodes, [value("x", [1, 3])], [value("y", [1, 3])]), [FixedShapes({"x": (1, 4)})])


@pytest.mark.parametrize("extent", [1 << 62, 1 << 33])
def test_absurd_shapes_are_refused(extent: int) -> None:
    with pytest.raises(ModelError):
        base.run_all(
            model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [extent])], [value("y", [extent])]),
            [FixedShapes({})],
        )


def test_opset_cap_converts_down_or_keeps_what_has_no_older_words() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    capped = base.run_all(model(nodes, [value("x", [1])], [value("y", [1])]), [OpsetCap(15, 7)])
    assert capped.opset_import[0].version == 15 and capped.ir_version == 7
    mish = model([helper.make_node("Mish", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    mish.opset_import[0].version = 18
    cap = OpsetCap(17, None)
    kept = base.run_all(mish, [cap])
    assert kept.opset_import[0].version == 18 and cap.beyond and "does not go down to 17" in cap.beyond


def test_constants_and_shapes_are_folded_and_dead_code_dropped() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["width"]),
        helper.make_node("Unsqueeze", ["width", "zero"], ["w1"]),
        helper.make_node("Concat", ["minus", "w1"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Exp", ["r"], ["unused"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    numbers = {"one": np.array(1), "zero": np.array([0]), "minus": np.array([-1])}
    before = model(nodes, [value("x", [1, 6])], [value("y", None)], **numbers)  # type: ignore[arg-type]  # no shape
    x = np.arange(-3, 3, dtype=np.float32).reshape(1, 6)
    expected = run(before, x=x)
    after = base.run_all(before, [PlainForm(), FixedShapes({}), ConstantFold(), DeadCode()])
    assert [node.op_type for node in after.graph.node] == ["Reshape", "Relu"]
    assert graphs.static_shape(after.graph.output[0]) == (1, 6)
    np.testing.assert_array_equal(run(after, x=x), expected)


def test_a_bomb_is_not_folded() -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["big"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["s"]),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    bomb = model(nodes, [value("x", [1])], [value("y", None)], big=np.array([1 << 20, 1 << 11]))  # type: ignore[arg-type]  # no shape
    after = base.run_all(bomb, [ConstantFold()])
    assert "ConstantOfShape" in {node.op_type for node in after.graph.node}


def network() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(16, 8)).astype(np.float32), "b": random.normal(size=8).astype(np.float32)}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return model(nodes, [value("x", [1, 16])], [value("y", [1, 8])], **weights)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_quantised_u8s8_per_channel_stays_close(reduce_range: bool) -> None:
    rows = np.random.default_rng(1).normal(size=(32, 16)).astype(np.float32)
    before = network()
    expected = np.concatenate([run(before, x=row[None])[0] for row in rows])
    after = base.run_all(network(), [QuantiseU8S8({"x": rows}, reduce_range=reduce_range)])
    kinds = {node.op_type for node in after.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    stored = graphs.constants(after)
    signed = [each for each in stored.values() if each.dtype == np.int8 and each.ndim == 2]
    assert len(signed) == 1 and any(each.shape == (8,) and each.dtype == np.float32 for each in stored.values())
    assert any(each.dtype == np.uint8 for each in stored.values())
    found = np.concatenate([run(after, x=row[None])[0] for row in rows])
    assert float(np.max(np.abs(found - expected))) < (0.2 if reduce_range else 0.1) * float(np.max(np.abs(expected)))


def test_quantising_says_why_it_cannot() -> None:
    with pytest.raises(CompileError, match="no calibration data"):
        base.run_all(network(), [QuantiseU8S8({}, reduce_range=False)])
    plain = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    with pytest.raises(CompileError, match="nothing to quantise"):
        base.run_all(plain, [QuantiseU8S8({"x": np.ones((2, 1), np.float32)}, reduce_range=False)])
