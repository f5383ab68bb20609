"""NVIDIA's own gRPC client against the front, unchanged."""

from __future__ import annotations

import queue
import secrets
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("grpc", reason="gRPC is an extra: pip install skerry[grpc]")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    triton: Any = pytest.importorskip(
        "tritonclient.grpc", reason="tritonclient[grpc] is installed by hand for this check"
    )
    shared_memory: Any = pytest.importorskip("tritonclient.utils.shared_memory")

from tests.agent import serving_parts as parts  # after the skip
from tests.agent.grpc_parts import Fronted, fronted


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted(tmp_path_factory.mktemp("triton-grpc")) as found:
        yield found


@pytest.fixture(params=["socket", "port"])
def client(served: Fronted, request: pytest.FixtureRequest) -> Iterator[Any]:
    where = f"unix:{served.said['socket']}" if request.param == "socket" else f"127.0.0.1:{served.said['port']}"
    with triton.InferenceServerClient(where) as made:
        yield made


def asked(values: list[float]) -> Any:
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array([values], np.float32))
    return tensor


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("toy")
    assert client.is_model_ready("toy", "1") and not client.is_model_ready("nobody")
    assert client.get_server_metadata().name == "skerry"
    metadata = client.get_model_metadata("toy", as_json=True)
    config = client.get_model_config("toy").config
    assert (config.name, config.max_batch_size, list(config.input[0].dims)) == ("toy", 0, [1, 4])
    assert config.input[0].data_type == config.output[0].data_type == 11  # TYPE_FP32
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["1", "4"]}]


def test_infer(client: Any) -> None:
    wanted = [triton.InferRequestedOutput("y")]
    result = client.infer("toy", [asked([0, 1, 2, 3])], outputs=wanted, request_id="mine", client_timeout=60)
    assert result.as_numpy("y").tolist() == [[0, 2, 4, 6]]
    assert result.get_response().id == "mine"
    assert result.get_response().parameters["prediction_id"].string_param


def test_infer_without_waiting_and_as_a_stream(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.async_infer("toy", [asked([0, 1, 2, 3])], lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=60)
    assert error is None and result.as_numpy("y").tolist() == [[0, 2, 4, 6]]
    client.start_stream(lambda result, error: answers.put((result, error)))
    for model, row in (("toy", 1), ("nobody", 2), ("toy", 3)):
        client.async_stream_infer(model, [asked([0, row, 0, 0])], request_id=str(row))
    found = [answers.get(timeout=60) for _ in range(3)]
    client.stop_stream()
    assert found[0][0].as_numpy("y").tolist() == [[0, 2, 0, 0]] and "no model" in str(found[1][1])
    assert found[2][0].as_numpy("y").tolist() == [[0, 6, 0, 0]]


def test_what_fails_raises(served: Fronted, client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match="worker was ended by SIGSEGV") as caught:
        client.infer("toy", [asked([parts.SEGFAULT, 0, 0, 0])])
    assert caught.value.status() == "StatusCode.INTERNAL"
    with pytest.raises(triton.InferenceServerException, match="no model") as caught:
        client.infer("nobody", [asked([0, 0, 0, 0])])
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(triton.InferenceServerException, match="there is nothing"):
        client.get_cuda_shared_memory_status()
    served.until(lambda: client.is_model_ready("toy"), "the worker is back")
    with pytest.raises(triton.InferenceServerException, match="Deadline"):
        client.infer("toy", [asked([parts.SLOW, 400, 0, 0])], client_timeout=0.1)
    client.infer("toy", [asked([0, 0, 0, 0])])  # once that one has run to its end


def test_statistics(client: Any) -> None:
    before = client.get_inference_statistics("toy").model_stats[0].inference_count
    client.infer("toy", [asked([0, 1, 2, 3])])
    after = client.get_inference_statistics().model_stats[0]
    assert after.inference_count == before + 1 and after.inference_stats.success.ns > 0


def test_load_unload_and_index(client: Any) -> None:
    client.unload_model("toy")
    assert not client.is_model_ready("toy")
    assert [each.state for each in client.get_model_repository_index().models] == ["UNAVAILABLE"]
    with pytest.raises(triton.InferenceServerException, match="unloaded"):
        client.infer("toy", [asked([0, 0, 0, 0])])
    client.load_model("toy")
    assert client.is_model_ready("toy")
    assert [each.state for each in client.get_model_repository_index().models] == ["READY"]
    with pytest.raises(triton.InferenceServerException, match="not taken"):
        client.load_model("toy", config="{}")


def test_system_shared_memory(client: Any) -> None:
    key, values = f"/skerry-triton-{secrets.token_hex(4)}", np.array([[0, 1, 2, 3]], np.float32)
    region = shared_memory.create_shared_memory_region("region", key, 32, create_only=True)
    try:
        shared_memory.set_shared_memory_region(region, [values])
        client.register_system_shared_memory("region", key, 32)
        assert list(client.get_system_shared_memory_status().regions) == ["region"]
        tensor = triton.InferInput("x", [1, 4], "FP32")
        tensor.set_shared_memory("region", 16)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("region", 16, offset=16)
        result = client.infer("toy", [tensor], outputs=[wanted])
        assert list(result.get_output("y").shape) == [1, 4]
        found = shared_memory.get_contents_as_numpy(region, np.float32, [1, 4], offset=16).copy()
        assert found.tolist() == (2 * values).tolist()
        client.unregister_system_shared_memory("region")
        assert not client.get_system_shared_memory_status().regions
    finally:
        shared_memory.destroy_shared_memory_region(region)
