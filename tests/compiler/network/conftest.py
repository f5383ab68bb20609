"""Building small models, and running them through ONNX Runtime and through generated C."""

from __future__ import annotations

import ctypes
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine as Processor
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import AVX2, AVX512, SSE, Machine
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.quantise import Precision

Array = NDArray[np.float32]
Feed = Mapping[str, NDArray[Any]]
MODELS = Path(os.environ.get("SKERRY_MODELS", Path(__file__).parents[4] / "shared" / "models"))


def machine() -> tuple[Machine, Processor]:
    """Return the widest machine that this computer can run."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    chosen = AVX512 if "avx512bw" in text else AVX2 if "avx2" in text else SSE
    return chosen, Processor(chosen.lanes, chosen.registers, 16, 32 * chosen.lanes, "x86_64-linux-gnu", "native")


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """Return a model of nodes; constants become initializers."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def reference(proto: onnx.ModelProto, feed: Feed) -> list[Array]:
    """Return what ONNX Runtime gives."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(o, np.float32) for o in session.run(None, dict(feed))]


def run(source: Source, proto: onnx.ModelProto, feed: Feed, shapes: Sequence[Sequence[int]]) -> list[Array]:
    """Compile generated C and run it once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.so"
        path.write_bytes(build.artifact(source.c, machine()[1], source.weights))
        return call(path, [feed[i.name] for i in proto.graph.input if i.name in feed], shapes)


def call(path: Path, inputs: Sequence[Array], shapes: Sequence[Sequence[int]]) -> list[Array]:
    """Run a library twice: the second answer, from used memory, must be the first."""
    function = ctypes.CDLL(str(path)).skerry_run
    sources = [np.ascontiguousarray(i, np.float32) for i in inputs]
    answers = []
    for _ in range(2):
        results = [np.full(math.prod(s), np.nan, np.float32) for s in shapes]
        given = (ctypes.c_void_p * len(sources))(*(s.ctypes.data for s in sources))
        taken = (ctypes.c_void_p * len(results))(*(r.ctypes.data for r in results))
        assert function(given, taken) == 0
        answers.append(results)
    for first, second in zip(*answers, strict=True):
        np.testing.assert_array_equal(first, second)
    return [r.reshape(s) for r, s in zip(answers[0], shapes, strict=True)]


def check(proto: onnx.ModelProto, feed: Feed, on: Machine | None = None) -> None:
    """Generated float C gives what ONNX Runtime gives, within 1e-4 of the range."""
    expected = reference(proto, feed)
    source = generate(proto, on or machine()[0])
    actual = run(source, proto, feed, [e.shape for e in expected])
    for e, a in zip(expected, actual, strict=True):
        scale = max(float(np.abs(e).max(initial=0)), 1e-3)
        np.testing.assert_allclose(a, e, atol=1e-4 * scale, rtol=1e-4)


def check_bytes(proto: onnx.ModelProto, feed: Feed, steps: float = 3.0, on: Machine | None = None) -> None:
    """Generated int8 C gives what ONNX Runtime gives within a few byte steps of the output's range."""
    expected = reference(proto, feed)
    network = network_of(proto)
    ranges = calibrate(network, proto, [feed], "minmax")
    source = generate(proto, on or machine()[0], ranges=ranges, precision=Precision())
    actual = run(source, proto, feed, [e.shape for e in expected])
    for e, a in zip(expected, actual, strict=True):
        span = max(float(e.max()), 0.0) - min(float(e.min()), 0.0)
        np.testing.assert_allclose(a, e, atol=max(steps * span / 255, 1e-3))


Random = Callable[..., Array]


def random(*shape: int, seed: int = 0) -> Array:
    """Return standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def grid(*shape: int, seed: int = 0) -> Array:
    """Return numbers that bytes hold exactly, so that a comparison sees the arithmetic and not the input's rounding."""
    x: Array = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.float32) / np.float32(64)
    x.flat[0], x.flat[-1] = -2.0, 127 / 64
    return x


def levels(*shape: int, seed: int = 0) -> Array:
    """Return weights whose last-but-first axes fill the byte range exactly for each output (axis 0)."""
    w: Array = np.random.default_rng(seed).integers(-127, 128, shape).astype(np.float32) / np.float32(127)
    w.reshape(shape[0], -1)[:, 0] = 1.0
    return w


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of shared real models."""
    if not (MODELS / "kws.onnx").exists():
        pytest.skip(f"no shared models in {MODELS}; set SKERRY_MODELS")
    return MODELS
