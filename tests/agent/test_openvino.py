"""OpenVINO through its C interface, against ONNX Runtime; needs the library, which is not part of the locked set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry_agent.engines import catalogue, library
from skerry_agent.engines.base import Engine, EngineError
from skerry_agent.errors import WorkerError
from skerry_agent.process import Answer, WorkerProcess
from skerry_contracts import codec
from skerry_contracts.bundle import Blob, Predicates, Signature, Variant
from skerry_contracts.device import Reason
from skerry_contracts.tensor import DType, TensorSpec

pytestmark = pytest.mark.skipif(
    library.find("openvino") is None, reason="OpenVINO is not installed (185 MB, opt-in): pip install skerry[openvino]"
)
SIGNATURE = Signature(
    (TensorSpec("image", DType.FP32, (1, 3, 16, 16)), TensorSpec("gain", DType.FP32, (1, 8, 1, 1))),
    (TensorSpec("map", DType.FP32, (1, 8, 16, 16)), TensorSpec("best", DType.INT64, (1, 16, 16))),
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    weights = numpy_helper.from_array(draw.normal(size=(8, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Mul", ["r", "gain"], ["map"]),
        helper.make_node("ArgMax", ["map"], ["best"], axis=1, keepdims=0),
    ]
    element = {DType.FP32: TensorProto.FLOAT, DType.INT64: TensorProto.INT64}
    inputs, outputs = (
        [helper.make_tensor_value_info(each.name, element[each.dtype], each.shape) for each in specs]
        for specs in (SIGNATURE.inputs, SIGNATURE.outputs)
    )
    graph = helper.make_graph(nodes, "net", inputs, outputs, [weights])
    path = tmp_path_factory.mktemp("openvino") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def variant(path: Path, options: dict[str, str] | None = None, memory_bytes: int = 90 << 20) -> Variant:
    content = path.read_bytes()
    blob = Blob(codec.digest(content), len(content))
    requires = Predicates("linux", "any")
    return Variant("openvino", "openvino", "fp32", {"model": blob}, requires, memory_bytes, options or {})


def load(path: Path, signature: Signature = SIGNATURE, **options: str) -> Engine:
    return catalogue.load(variant(path, dict(options)), {"model": path}, signature)


def rows(seed: int = 1) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=spec.shape).astype(np.float32) for spec in SIGNATURE.inputs]


def empty() -> list[np.ndarray]:
    return [np.zeros(spec.shape, kind) for spec, kind in zip(SIGNATURE.outputs, ("f4", "i8"), strict=True)]


def answers(engine: Engine, feed: list[np.ndarray]) -> list[np.ndarray]:
    found = empty()
    engine.run([each.data for each in feed], [each.data for each in found])
    return found


def expected(path: Path, feed: list[np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, dict(zip(("image", "gain"), feed, strict=True)))
    return found


def test_float32_is_float32(network: Path) -> None:
    engine, feed = load(network), rows()
    for one, two in zip(answers(engine, feed), expected(network, feed), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
    engine.close()


def test_bound_calls_follow_their_own_memory(network: Path) -> None:
    engine = load(network)
    feeds = [rows(2), rows(3)]
    outputs = [empty() for _ in feeds]
    calls = [
        engine.bind([each.data for each in feed], [each.data for each in output])
        for feed, output in zip(feeds, outputs, strict=True)
    ]
    feeds[0][0] *= 2
    for call in (*calls, *reversed(calls)):
        call()
    for feed, output in zip(feeds, outputs, strict=True):
        np.testing.assert_allclose(output[0], expected(network, feed)[0], rtol=1e-5, atol=1e-5)
    del calls
    engine.close()


def test_bfloat16_only_where_it_is_asked_for(network: Path) -> None:
    feed = rows()
    exact = expected(network, feed)[0]
    spread = float(np.abs(exact).max())
    off = [float(np.abs(answers(load(network, precision=each), feed)[0] - exact).max()) for each in ("f32", "bf16")]
    assert off[0] < 1e-6 * spread and off[1] < 0.02 * spread
    with pytest.raises(EngineError, match="none of f32, bf16"):
        load(network, precision="f8")


def test_other_models_and_noise_are_refused(network: Path, tmp_path: Path) -> None:
    short = Signature(SIGNATURE.inputs[:1], SIGNATURE.outputs)
    with pytest.raises(EngineError, match="2 inputs, 1 expected"):
        load(network, short)
    wide = Signature((TensorSpec("image", DType.FP32, (1, 3, 16, 17)), SIGNATURE.inputs[1]), SIGNATURE.outputs)
    engine = load(network, wide)
    feed = [np.zeros(spec.shape, np.float32) for spec in wide.inputs]
    with pytest.raises(EngineError, match="OpenVINO"):
        answers(engine, feed)
    path = tmp_path / "noise"
    for content in (b"", b"noise" * 100, network.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(EngineError) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_it_serves_in_a_locked_worker_that_has_one_thread_to_compute_on(network: Path, tmp_path: Path) -> None:
    made = variant(network)
    (tmp_path / made.blobs["model"].sha256).write_bytes(network.read_bytes())
    feed = rows(4)

    async def body() -> list[bytes]:
        worker = await WorkerProcess.start(
            tmp_path,
            made,
            SIGNATURE,
            threads=1,
            extra_bytes=2 * made.memory_bytes,
            timeout_s=60,
            on_death=lambda error: None,
        )
        done: asyncio.Future[Answer | WorkerError | None] = asyncio.get_running_loop().create_future()
        assert worker.run([each.tobytes() for each in feed], 30, done.set_result)
        answer = await asyncio.wait_for(done, 30)
        worker.kill(WorkerError("done", reason=Reason.UNHEALTHY))
        await worker.buried()
        assert isinstance(answer, Answer)
        return list(answer.outputs)

    found = asyncio.run(body())
    np.testing.assert_allclose(
        np.frombuffer(found[0], np.float32).reshape(1, 8, 16, 16), expected(network, feed)[0], rtol=1e-5, atol=1e-5
    )
