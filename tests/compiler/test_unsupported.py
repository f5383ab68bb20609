"""What an engine cannot do is named node by node, told once, and only where no generator of the engine did it."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler import unsupported
from skerry_compiler.engines import catalogue
from skerry_compiler.engines.candidate import Draft, Failure
from skerry_compiler.engines.native import engine as native
from skerry_compiler.engines.network import engine as network
from skerry_contracts import codec
from skerry_contracts.evidence import Unsupported
from skerry_targets import catalogue as targets

PROFILE = targets.get("x86-64-v3")


def model(nodes: list[onnx.NodeProto], shapes: dict[str, list[int]], **constants: np.ndarray) -> onnx.ModelProto:
    """Nodes from `x` to `y`; all values are float and of the given shapes."""
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    initializers = [numpy_helper.from_array(each, name) for name, each in constants.items()]
    inner = [each for name, each in values.items() if name not in ("x", "y")]
    graph = helper.make_graph(nodes, "g", [values["x"]], [values["y"]], initializers, value_info=inner)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_every_node_is_named_not_only_the_first() -> None:
    grid = np.zeros((1, 8, 8, 2), np.float32)
    made = model(
        [
            helper.make_node("GridSample", ["x", "grid"], ["a"], "first"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("GridSample", ["b", "grid"], ["c"], "second"),
            helper.make_node("RandomNormalLike", ["c"], ["d"], "noise"),
            helper.make_node("Add", ["c", "d"], ["y"]),
        ],
        {name: [1, 2, 8, 8] for name in "xabcdy"},
        grid=grid,
    )
    (failure,) = network.candidates(made, PROFILE)
    assert isinstance(failure, Failure)
    assert [(each.operator, each.nodes, each.opset) for each in failure.unsupported] == [
        ("GridSample", ("first", "second"), 20),
        ("RandomNormalLike", ("noise",), 20),
    ]
    assert failure.unsupported[0].nearest == unsupported.NEAREST["GridSample"]
    assert "GridSample (2 nodes, e.g. 'first', opset 20)" in failure.reason
    assert "nearest supported form: Resize" in failure.reason


def test_a_network_taken_by_one_generator_is_no_failure_of_the_other() -> None:
    weight = np.ones((2, 2, 3, 3), np.float32)
    made = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv")], {"x": [1, 2, 8, 8], "y": [1, 2, 6, 6]}, w=weight
    )
    (lost,) = native.candidates(made, PROFILE)
    assert isinstance(lost, Failure) and lost.unsupported[0].nodes == ("conv",)
    both = [lost, *network.candidates(made, PROFILE)]
    assert [type(each) for each in catalogue.told_once(both)] == [Draft]


def test_a_failure_of_both_is_told_by_the_one_that_knows_more() -> None:
    group = (Unsupported("Loop", 17, ("a",), 1, "none"),)
    one = Failure("native", "native", "fp32", "rows only", (*group, *group))
    two = Failure("native-network", "native", "fp32", "no loop", group)
    other = Failure("ort-int8", "onnxruntime", "int8", "no rows")
    assert catalogue.told_once([one, two, other]) == [two, other]


WORDS = st.text(max_size=200)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("AB"), WORDS, st.sampled_from(["no", "no; yes"])), max_size=30))
def test_groups_keep_every_node(given_: list[tuple[str, str, str]]) -> None:
    found = [unsupported.one(operator, "", 17, node, why) for operator, node, why in given_]
    groups = unsupported.grouped(found)
    assert unsupported.count(groups) == len(given_)
    assert sorted(name for each in groups for name in each.nodes) == sorted(node[:120] for _, node, _ in given_)
    assert len({(each.operator, each.reason, each.nearest) for each in groups}) == len(groups)
    assert all(unsupported.words(each).startswith(each.operator) for each in groups)


def test_thousands_of_nodes_leave_the_evidence_readable() -> None:
    found = (unsupported.one(f"Op{i}", "d" * 300, 1, "n" * 5000, "w" * 5000) for i in range(60_000))
    error = unsupported.error("an engine", found)
    assert unsupported.count(error.nodes) == 60_000
    assert len(str(error)) < 20_000
    assert len(codec.encode(error.nodes)) < codec.MAX_DOCUMENT_BYTES / 3
