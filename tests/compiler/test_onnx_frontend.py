"""Hostile and broken ONNX files: each refused with one line that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from skerry_compiler.errors import CompileError, ModelError, UnsupportedError
from skerry_compiler.frontends import onnx as frontend


def model(
    nodes: list[onnx.NodeProto], opset: int = 17, names: tuple[str, str] = ("x", "y"), **opsets: int
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in names]
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(key, value) for key, value in opsets.items())]
    return helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=imports, ir_version=8)


def refused(content: onnx.ModelProto | bytes) -> CompileError:
    data = content if isinstance(content, bytes) else content.SerializeToString()
    with pytest.raises(CompileError) as caught:
        frontend.parse(data, "model.onnx")
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_sound_model_is_read() -> None:
    assert frontend.parse(model([helper.make_node("Relu", ["x"], ["y"])]).SerializeToString(), "m").graph.node


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(100), b"\x08\x08", b"# text\n" * 50])
def test_other_files_are_refused(content: bytes) -> None:
    assert "not an ONNX model" in str(refused(content))


def test_truncated_files_are_refused(models_bytes: bytes) -> None:
    for keep in (10, len(models_bytes) // 2, len(models_bytes) - 1):
        refused(models_bytes[:keep])


@pytest.fixture(scope="module")
def models_bytes() -> bytes:
    built = model([helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])])
    return bytes(built.SerializeToString())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_never_crash(models_bytes: bytes, data: st.DataObject) -> None:
    damaged = bytearray(models_bytes)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        frontend.parse(bytes(damaged), "m")
    except CompileError as error:
        assert str(error)


def test_every_unsupported_operator_is_named_with_node_opset_and_nearest() -> None:
    nodes = [
        helper.make_node("Rellu", ["x"], ["a"], name="first"),
        helper.make_node("Swizzle", ["a"], ["b"], name="second", domain="com.acme"),
        helper.make_node("Tanh", ["b"], ["y"]),
    ]
    error = refused(model(nodes, com_acme=1))
    assert isinstance(error, UnsupportedError)
    for word in ("'Rellu'", "'first'", "opset 17", "nearest Relu", "'Swizzle'", "'second'", "com.acme", "2 of 3 nodes"):
        assert word in str(error)


def test_opset_of_the_future_is_refused() -> None:
    assert "newer than" in str(refused(model([helper.make_node("Relu", ["x"], ["y"])], opset=999)))


def test_external_data_is_refused_with_its_path(tmp_path: Path) -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [4], [1, 2, 3, 4])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    built = model([helper.make_node("Add", ["x", "w"], ["y"])])
    built.graph.initializer.append(tensor)
    error = refused(built)
    assert "../../etc/passwd" in str(error) and "another file" in str(error) and error.hint


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a\nb", "\x00", "x" * 1000])
def test_names_that_are_paths_or_no_text_are_refused(name: str) -> None:
    assert isinstance(refused(model([helper.make_node("Relu", [name], ["y"])], names=(name, "y"))), ModelError)


def test_a_weight_named_like_a_path_is_refused() -> None:
    built = model([helper.make_node("Add", ["x", "../../etc/w"], ["y"])])
    built.graph.initializer.append(helper.make_tensor("../../etc/w", TensorProto.FLOAT, [4], [1, 2, 3, 4]))
    assert "is a path" in str(refused(built))


def test_cycles_are_refused() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    assert "cycle" in str(refused(model(nodes)))


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        frontend.load(tmp_path / "none.onnx")
