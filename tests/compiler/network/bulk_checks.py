"""Checking many small graphs against ONNX Runtime in one build: cases are gathered first, then compiled together."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from tests.compiler.network.conftest import machine

from skerry_compiler.engines.network import bulk
from skerry_compiler.engines.network.generate import generate

Arrays = Mapping[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A graph with what it is fed."""

    proto: onnx.ModelProto
    feed: Arrays
    tolerance: float = 1e-4

    def __str__(self) -> str:
        return (
            "; ".join(
                f"{n.op_type}({', '.join(map(str, (helper.get_attribute_value(a) for a in n.attribute)))})"
                for n in self.proto.graph.node
            )
            + f" on {[(k, v.dtype, v.shape) for k, v in self.feed.items()]}"
        )


def case(
    nodes: onnx.NodeProto | Sequence[onnx.NodeProto], feed: Arrays, constants: Mapping[str, Any] | None = None,
    opset: int = 21, outputs: Sequence[str] = ("y",), tolerance: float = 1e-4,
) -> Case:  # fmt: skip
    """Return a case of nodes; inputs have the types of what they are fed."""
    feed = {name: np.asarray(array) for name, array in feed.items()}
    graph = helper.make_graph(
        [nodes] if isinstance(nodes, onnx.NodeProto) else list(nodes),
        "case",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feed.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return Case(proto, feed, tolerance)


def drawn(strategy: st.SearchStrategy[Case], count: int) -> list[Case]:
    """Return examples of a strategy: the same ones every time."""
    found: list[Case] = []

    @settings(max_examples=count, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def collect(one: Case) -> None:
        found.append(one)

    collect()
    return found


def expected(one: Case) -> list[NDArray[Any]]:
    """Return what ONNX Runtime gives."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(one.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(o) for o in session.run(None, dict(one.feed))]


def check_all(cases: Sequence[Case]) -> None:
    """Every case gives what ONNX Runtime gives: integers exactly, reals within the tolerance of their range."""
    chosen, processor = machine()
    sources = [generate(one.proto, chosen) for one in cases]
    answers = [expected(one) for one in cases]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.so"
        path.write_bytes(bulk.library_of(sources, chosen, processor))
        opened = bulk.Bulk(path)
        wrong = []
        for number, (one, wanted) in enumerate(zip(cases, answers, strict=True)):
            inputs = [one.feed[i.name] for i in one.proto.graph.input]
            for _ in range(2):  # the second answer comes from used memory
                found = opened.run(number, inputs, [(w.shape, w.dtype) for w in wanted])
                wrong += [f"{one}: {said}" for a, w in zip(found, wanted, strict=True) if (said := differ(one, a, w))]
    assert not wrong, "\n".join(wrong[:5])


def differ(one: Case, actual: NDArray[Any], wanted: NDArray[Any]) -> str:
    """Return how an answer is wrong, "" where it is not."""
    if wanted.dtype.kind != "f":
        return "" if np.array_equal(actual, wanted) else f"{actual.ravel()[:8]} instead of {wanted.ravel()[:8]}"
    finite = np.abs(wanted[np.isfinite(wanted)])
    scale = max(float(finite.max(initial=0)), 1e-3)
    if np.allclose(actual, wanted, rtol=one.tolerance, atol=one.tolerance * scale, equal_nan=True):
        return ""
    return f"{np.nanmax(np.abs(actual - wanted))} off in a range of {scale}"
