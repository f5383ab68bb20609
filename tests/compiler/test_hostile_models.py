"""Models written to harm whoever compiles them: files they point to, memory and time they ask for, text that would
become C or a path.

Here on the reader alone; what must be stopped by limits is in test_hostile_appetite.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from tests.compiler.hostile_parts import TRUE, X, Y, built, stored

from skerry_compiler.engines.network.cost import AVX2
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.errors import CompileError, LimitError, ModelError, UnsupportedError
from skerry_compiler.frontends import onnx as frontend


def refused(content: ModelProto | bytes, *kinds: type[CompileError]) -> str:
    data = content if isinstance(content, bytes) else content.SerializeToString()
    with pytest.raises(kinds or CompileError) as caught:
        frontend.parse(data, "model.onnx")
    said = str(caught.value)
    assert said.isprintable() and len(said) < 1000
    return said


def elsewhere(location: str, *more: tuple[str, str]) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), *more):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


@pytest.mark.parametrize(
    "location", ["../secret", "a/../../secret", "/etc/passwd", "/dev/zero", "symlink", "hardlink", "weights.bin", ""]
)
def test_no_other_file_is_ever_read(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "symlink").symlink_to("secret")
    (tmp_path / "hardlink").hardlink_to(tmp_path / "secret")
    model = built([helper.make_node("Add", ["x", "w"], ["y"])], [elsewhere(location)])
    assert "another file" in refused(model, ModelError)


def test_other_files_are_refused_wherever_a_tensor_may_stand() -> None:
    outside = elsewhere("weights.bin", ("offset", "-1"), ("length", str(1 << 40)))
    add = helper.make_node("Add", ["x", "w"], ["y"])
    attribute = helper.make_node("Constant", [], ["w"], value=outside)
    assert "another file" in refused(built([attribute, add]))
    untyped = built([attribute, add])
    untyped.graph.node[0].attribute[0].type = onnx.AttributeProto.UNDEFINED
    assert refused(untyped)
    sparse = helper.make_node("Constant", [], ["w"])
    held = sparse.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    held.sparse_tensor.values.CopyFrom(outside)
    assert "another file" in refused(built([sparse, add]))
    branch = helper.make_graph([attribute, helper.make_node("Identity", ["w"], ["b"])], "b", [], [Y])
    assert "another file" in refused(built([helper.make_node("If", ["t"], ["y"], then_branch=branch)], [TRUE]))
    function = helper.make_function("own", "F", ["a"], ["w"], [attribute], [helper.make_opsetid("", 17)])
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    imports = [helper.make_opsetid("own", 1)]
    assert "another file" in refused(built([call], functions=[function], imports=imports))


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf's wire form."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_bytes_that_are_no_model() -> None:
    nested = b""
    for _ in range(3000):
        nested = field(1, field(5, field(6, nested)))
    for content in (field(7, nested), b"\x3a\xff\xff\xff\xff\x07" + bytes(10), np.random.default_rng(0).bytes(4096)):
        assert "not an ONNX model" in refused(content, ModelError)


def test_a_file_beyond_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate((1 << 31) + 10)
    with pytest.raises(LimitError, match="at most 2147483647"):
        frontend.load(tmp_path / "m.onnx")


def test_branches_that_double_and_functions_that_grow_are_counted_first() -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "leaf", [], [Y])
    for _ in range(12):
        node = helper.make_node("If", ["true"], ["y"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [Y])
    assert "branches" in refused(built(list(graph.node), [TRUE]), LimitError)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "f0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets)]
    for i in range(1, 41):
        calls = [helper.make_node(f"f{i - 1}", [a], [b], domain="own") for a, b in (("a", "t"), ("t", "b"))]
        functions.append(helper.make_function("own", f"f{i}", ["a"], ["b"], calls, opsets))
    call = helper.make_node("f40", ["x"], ["y"], domain="own")
    assert "written out" in refused(built([call], functions=functions, imports=opsets[1:]), LimitError)
    for names in ({"f": "f"}, {"f": "g", "g": "h", "h": "f"}):
        loop = [
            helper.make_function("own", a, ["a"], ["b"], [helper.make_node(b, ["a"], ["b"], domain="own")], opsets)
            for a, b in names.items()
        ]
        call = helper.make_node("f", ["x"], ["y"], domain="own")
        assert "calls itself" in refused(built([call], functions=loop, imports=opsets[1:]), ModelError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"opset": 999}, "newer than"),
        ({"opset": 0}, "opset"),
        ({"opset": -3}, "opset"),
        ({"ir": 999}, "not a sound model"),
        ({"ir": 0}, "not a sound model"),
        ({"ir": -1}, "not a sound model"),
        ({"inputs": [X, X]}, "are called 'x'"),
        ({"outputs": [Y, Y]}, "are called 'y'"),
    ],
)
def test_impossible_versions_and_names_given_twice(options: dict[str, Any], said: str) -> None:
    assert said in refused(built([helper.make_node("Relu", ["x"], ["y"])], None, **options))


def test_values_made_twice_or_from_themselves() -> None:
    assert refused(built([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Tanh", ["x"], ["y"])]), ModelError)
    assert "cycle" in refused(built([helper.make_node("Add", ["x", "y"], ["y"])]), ModelError)
    twice = [stored("w", [0] * 4), stored("w", [1] * 4)]
    assert refused(built([helper.make_node("Add", ["x", "w"], ["y"])], twice), ModelError)


def test_attributes_that_no_operator_has_and_foreign_libraries_are_refused() -> None:
    """As in CVE-2026-34445, where keys of a model became attributes of Python objects."""
    assert refused(built([helper.make_node("Relu", ["x"], ["y"], custom_library="/tmp/evil.so")]), ModelError)
    foreign = built([helper.make_node("Relu", ["x"], ["y"], domain="evil")], imports=[helper.make_opsetid("evil", 1)])
    assert "'evil' is not known" in refused(foreign, UnsupportedError)


@pytest.mark.parametrize("place", ["input", "output", "node", "extent"])
def test_names_that_are_no_text(place: str) -> None:
    names = {place: "QQQQQ"}
    x, y = names.get("input", "x"), names.get("output", "y")
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [1, names.get("extent", 4)]) for each in (x, y)]
    nodes = [helper.make_node("Relu", [x], [y], name=names.get("node", ""))]
    model = built(nodes, inputs=values[:1], outputs=values[1:])
    said = refused(model.SerializeToString().replace(b"QQQQQ", b"\xff\xfe\xc0QQ"), ModelError)
    assert "not text" in said or "not an ONNX model" in said


@pytest.mark.parametrize(
    "dims",
    [[2**63 - 1], [-4], [1 << 40], [1 << 32, 1 << 32]],
)
def test_weights_that_are_not_as_large_as_they_say(dims: list[int]) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(16))
    assert refused(built([helper.make_node("Add", ["x", "w"], ["y"])], [tensor]), ModelError)


def test_elements_of_no_known_type_and_text_that_is_none() -> None:
    add = helper.make_node("Add", ["x", "w"], ["y"])
    strange = TensorProto(name="w", data_type=99, dims=[4], raw_data=bytes(16))
    assert "type 99" in refused(built([add], [strange]), ModelError)
    text = TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"\xff\xfe"])
    assert "UTF-8" in refused(built([add], [text]), ModelError)


def test_a_chain_without_end_is_no_work_for_generated_code() -> None:
    names = ["x", *(f"v{i}" for i in range(9_999)), "y"]
    nodes = [helper.make_node("Relu" if i % 2 else "Neg", [names[i]], [names[i + 1]]) for i in range(10_000)]
    with pytest.raises(UnsupportedError, match="10002 operations"):
        generate(frontend.parse(built(nodes).SerializeToString(), "m"), AVX2)


def test_names_and_notes_never_become_code(tmp_path: Path) -> None:
    """Neither comments nor strings of the generated C can be left by a name."""
    evil = '*/ int evil(void); /* " \\ %s \n #include "/etc/passwd"'
    nodes = [helper.make_node("Gemm", ["x", "w"], [evil], name=evil), helper.make_node("Relu", [evil], ["y"])]
    model = built(nodes, [stored("w", np.eye(4))])
    model.doc_string, model.producer_name, model.graph.name = evil, evil, evil
    source = generate(frontend.parse(model.SerializeToString(), "m"), AVX2)
    code = re.sub(r"/\*.*?\*/", "", source.c, flags=re.DOTALL)
    assert "evil" not in code and "passwd" not in code
