"""Every opset that the installed onnx package reads, and models whose extents are open: the same network comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.compiler.opsets import network

from skerry_compiler import prepare
from skerry_compiler.errors import CompileError, LimitError, ModelError, UnsupportedError
from skerry_compiler.frontends import onnx as frontend
from skerry_compiler.passes import base, pipelines
from skerry_compiler.passes.dense_constants import DenseConstants
from skerry_compiler.passes.fixed_shapes import FixedShapes
from skerry_compiler.passes.opset_lift import OpsetLift
from skerry_compiler.passes.plain_form import PlainForm
from skerry_contracts import codec
from skerry_targets import host

NEWEST = onnx.defs.onnx_opset_version()
X = np.random.default_rng(0).standard_normal((1, 3, 12, 10)).astype(np.float32)
FLOAT = TensorProto.FLOAT


def answers(model: onnx.ModelProto | Path, **feeds: np.ndarray) -> np.ndarray:
    content = model.read_bytes() if isinstance(model, Path) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def prepared(
    model: onnx.ModelProto, folder: Path, *, drafts: bool = False, **shapes: tuple[int, ...]
) -> dict[str, Any]:
    source = folder / "model.onnx"
    onnx.save(model, source)
    rows = folder / "rows.npz"
    np.savez(rows, x=np.repeat(X, 8, axis=0))
    job = {
        "profile": codec.to_plain(host.host_profile()), "calibration": str(rows) if drafts else None,
        "source": str(source), "shapes": shapes, "trust_pickle": False, "input_name": None, "drafts": drafts,
        "wanted": ["native-network", "ort", "ort-int8"], "engines": ["native", "onnxruntime"], "time_s": 5.0,
        "retrain": False, "threads": 1, "scales": None,
    }  # fmt: skip
    return prepare.work(job, folder)


@pytest.mark.parametrize("opset", range(1, NEWEST + 1))
def test_every_opset_gives_the_same_network(opset: int, tmp_path: Path) -> None:
    found = prepared(network(opset), tmp_path)
    (taken,), (given,) = found["signature"]["inputs"], found["signature"]["outputs"]
    assert taken["shape"] == [1, 3, 12, 10] and given["shape"] == [1, 4]
    np.testing.assert_allclose(answers(Path(found["original"]), x=X), answers(network(17), x=X), rtol=1e-5)


@pytest.mark.parametrize("opset", [1, 5, 8, 12, 21, NEWEST])
def test_engines_take_every_opset(opset: int, tmp_path: Path) -> None:
    found = prepared(network(opset), tmp_path, drafts=True)
    drafted = {each["draft"]["id"] for each in found["candidates"] if "draft" in each}
    assert drafted >= {"native-network", "ort", "ort-plain", "ort-int8"}


@pytest.mark.parametrize("to", [13, 17])
@pytest.mark.parametrize("opset", [1, 4, 6, 9, 12])
def test_lifted_models_answer_the_same(opset: int, to: int) -> None:
    model = base.run_all(network(opset, 1), [PlainForm(), FixedShapes({})])
    lifted = base.run_all(model, [OpsetLift(to)])
    assert lifted.opset_import[0].version == to
    np.testing.assert_allclose(answers(lifted, x=X), answers(network(17), x=X), rtol=1e-5)


@pytest.mark.parametrize("opset", [6, 11])
def test_passes_write_the_same_bytes_every_time(opset: int) -> None:
    made = set()
    for _ in range(3):
        model = base.run_all(network(opset, 1), [PlainForm(), FixedShapes({})])
        rewritten = pipelines.rewritten(model, pipelines.onnxruntime())
        made.add(rewritten.SerializeToString(deterministic=True))
    assert len(made) == 1


def test_what_cannot_be_lifted_stays() -> None:
    newer = network(18, 1)
    assert OpsetLift(17).run(newer) is newer
    upsample = helper.make_node("Upsample", ["x", "s"], ["y"], mode="linear")
    graph = helper.make_graph([upsample], "g", [value("x", [1, 1, 2, 2])], [value("y", [1, 1, 4, 4])],
                              [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s")])  # fmt: skip
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(answers(OpsetLift(17).run(old), x=x), answers(old, x=x))


def value(name: str, shape: list[int | str] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def simple(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], *outputs: str, **constants: Any
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(content), name) for name, content in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, [value(name, None) for name in outputs], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def shapes_of(model: onnx.ModelProto, **given: tuple[int, ...]) -> list[list[int]]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fixed = base.run_all(copy, [FixedShapes(given)])
    return [[each.dim_value for each in one.type.tensor_type.shape.dim] for one in fixed.graph.input]


def test_an_extent_with_a_name_is_told_once() -> None:
    """As in an encoder: ids, mask and types share batch and length."""
    names = ("ids", "mask", "kinds")
    encoder = simple(
        [helper.make_node("Sum", list(names), ["y"])], [value(each, ["batch", "length"]) for each in names], "y"
    )
    assert shapes_of(encoder, mask=(1, 16)) == [[1, 16]] * 3
    assert shapes_of(encoder, ids=(2, 7)) == [[2, 7]] * 3


def test_a_batch_that_is_not_the_first_axis() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["state"], ["z"])]
    model = simple(nodes, [value("x", ["n", 4]), value("state", [2, "n", 8])], "y", "z")
    assert shapes_of(model) == [[1, 4], [2, 1, 8]]
    assert shapes_of(model, x=(3, 4)) == [[3, 4], [2, 3, 8]]
    alone = simple(nodes[:1], [value("x", [5, "n", 4])], "y")
    with pytest.raises(ModelError, match=r"open \('n'\)") as caught:
        shapes_of(alone)
    assert "--shape x=5,?,4" in caught.value.hint
    assert shapes_of(alone, x=(5, 1, 4)) == [[5, 1, 4]]


@pytest.mark.parametrize("name", ["None", "?", "d"])
def test_names_that_say_nothing_are_not_believed(name: str) -> None:
    image = simple([helper.make_node("Relu", ["x"], ["y"])], [value("x", [name, 3, name, name])], "y")
    with pytest.raises(ModelError, match="more than the batch is open"):
        shapes_of(image)
    assert shapes_of(image, x=(1, 3, 8, 9)) == [[1, 3, 8, 9]]


def test_images_of_open_size_run_at_the_size_that_is_given(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalMaxPool", ["c"], ["y"])]
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    model = simple(nodes, [value("x", ["n", 3, "h", "w"])], "y", w=weights)
    with pytest.raises(ModelError, match=r"\('h', 'w'\)"):
        prepared(model, tmp_path)
    found = prepared(model, tmp_path, x=(1, 3, 20, 16))
    assert found["signature"]["inputs"][0]["shape"] == [1, 3, 20, 16]
    assert found["signature"]["outputs"][0]["shape"] == [1, 4, 1, 1]


def sparse(places: Any, shape: list[int]) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([1, -2], np.float32), "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(places, np.int64), "at"), shape)


@pytest.mark.parametrize("places", [[0, 5], [[0, 0], [2, 1]]])
@pytest.mark.parametrize("stored", [True, False])
def test_sparse_constants_become_dense(places: Any, stored: bool) -> None:
    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse(places, [3, 2]))
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = simple([product] if stored else [constant, product], [value("x", [1, 3])], "y")
    if stored:
        model.graph.sparse_initializer.append(sparse(places, [3, 2]))
    made = base.run_all(model, [DenseConstants()])
    dense = numpy_helper.to_array(made.graph.initializer[0])
    np.testing.assert_array_equal(dense, [[1, 0], [0, 0], [0, -2]])
    x = np.array([[1, 2, 3]], np.float32)
    np.testing.assert_array_equal(answers(made, x=x), x @ dense)


def test_hostile_sparse_constants_are_refused() -> None:
    for places, shape, kind in (([0, 9], [3, 2], ModelError), ([0, -1], [3, 2], ModelError),
                                ([0, 1], [1 << 20, 1 << 20], LimitError), ([0], [3, 2], ModelError)):  # fmt: skip
        model = simple([helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", [1, 3])], "y")
        model.graph.sparse_initializer.append(sparse(places, shape))
        with pytest.raises(kind):
            DenseConstants().run(model)


def refused(model: onnx.ModelProto, folder: Path) -> CompileError:
    with pytest.raises(CompileError) as caught:
        prepared(model, folder)
    assert "\n" not in str(caught.value) and caught.value.hint
    return caught.value


def test_text_brain_floats_and_sequences_are_refused_with_what_to_do(tmp_path: Path) -> None:
    relu = [helper.make_node("Identity", ["x"], ["y"])]
    error = refused(simple(relu, [value("x", [2], TensorProto.STRING)], "y"), tmp_path)
    assert "STRING" in str(error) and "token ids" in error.hint
    error = refused(simple(relu, [value("x", [2], TensorProto.BFLOAT16)], "y"), tmp_path)
    assert "BFLOAT16" in str(error) and "float32" in error.hint
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, [2])
    error = refused(simple([helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)], [sequence], "y"), tmp_path)
    assert "sequence" in str(error)


def test_models_in_training_mode_are_refused(tmp_path: Path) -> None:
    model = simple([helper.make_node("Dropout", ["x", "r", "t"], ["y"])], [value("x", [2])], "y",
                   r=np.float32(0.5), t=np.bool_(True))  # fmt: skip
    error = refused(model, tmp_path)
    assert isinstance(error, UnsupportedError) and "training mode" in str(error) and "model.eval()" in error.hint


def test_what_a_model_was_trained_with_is_dropped() -> None:
    model = simple([helper.make_node("Relu", ["x"], ["y"])], [value("x", [2])], "y")
    model.training_info.add().algorithm.CopyFrom(model.graph)
    assert not base.run_all(model, [PlainForm()]).training_info


def test_outputs_without_a_shape_are_read_and_stay_without() -> None:
    model = simple([helper.make_node("Relu", ["x"], ["y"])], [value("x", [2])], "y")
    read = frontend.parse(model.SerializeToString(), "m")
    assert not read.graph.output[0].type.tensor_type.HasField("shape")


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.BOOL])
def test_types_of_inputs_and_outputs_are_kept(kind: int, tmp_path: Path) -> None:
    model = simple([helper.make_node("Identity", ["x"], ["y"])], [value("x", ["n", 3], kind)], "y")
    model.graph.output[0].type.tensor_type.elem_type = kind
    found = prepared(model, tmp_path)["signature"]
    assert found["inputs"][0]["dtype"] == found["outputs"][0]["dtype"]


def test_a_model_without_inputs_and_one_of_no_elements(tmp_path: Path) -> None:
    constant = simple([helper.make_node("Add", ["a", "a"], ["y"])], [], "y", a=np.ones(3, np.float32))
    assert prepared(constant, tmp_path)["signature"]["inputs"] == []
    empty = simple([helper.make_node("Relu", ["x"], ["y"])], [value("x", [0, 4])], "y")
    assert prepared(empty, tmp_path)["signature"]["outputs"][0]["shape"] in ([1, 4], [0, 4])
