"""NVIDIA's own client against the local API, unchanged: what a developer who comes from Triton already runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.agent import serving_parts as parts
from tests.agent.api_parts import Live, serving

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    triton: Any = pytest.importorskip(
        "tritonclient.http", reason="tritonclient[http] brings gevent and aiohttp: installed by hand for this check"
    )
    shared_memory: Any = pytest.importorskip("tritonclient.utils.shared_memory")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("triton")) as found:
        yield found


@pytest.fixture
def client(live: Live) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"127.0.0.1:{live.port}")
    yield made
    made.close()


def asked(values: list[float], *, binary: bool) -> Any:
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array([values], np.float32), binary_data=binary)
    return tensor


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("toy")
    assert client.is_model_ready("toy", "1") and not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "skerry"
    assert client.get_model_metadata("toy")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 4]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer(client: Any, binary_in: bool, binary_out: bool) -> None:
    wanted = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    result = client.infer("toy", [asked([0, 1, 2, 3], binary=binary_in)], outputs=wanted, request_id="mine")
    assert result.as_numpy("y").tolist() == [[0, 2, 4, 6]]
    assert result.get_response()["id"] == "mine"
    assert result.get_response()["parameters"]["prediction_id"]


def test_what_fails_raises(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match="worker was ended by SIGSEGV"):
        client.infer("toy", [asked([parts.SEGFAULT, 0, 0, 0], binary=True)])
    with pytest.raises(triton.InferenceServerException, match="no model"):
        client.infer("nobody", [asked([0, 0, 0, 0], binary=True)])


def test_statistics(client: Any) -> None:
    before = client.get_inference_statistics("toy")["model_stats"][0]["inference_count"]
    client.infer("toy", [asked([0, 1, 2, 3], binary=True)])
    after = client.get_inference_statistics()["model_stats"][0]
    assert after["inference_count"] == before + 1 and after["inference_stats"]["success"]["ns"] > 0


def test_load_unload_and_index(client: Any) -> None:
    client.unload_model("toy")
    assert not client.is_model_ready("toy")
    assert [each["state"] for each in client.get_model_repository_index()] == ["UNAVAILABLE"]
    with pytest.raises(triton.InferenceServerException, match="unloaded"):
        client.infer("toy", [asked([0, 0, 0, 0], binary=True)])
    client.load_model("toy")
    assert client.is_model_ready("toy")
    assert [each["state"] for each in client.get_model_repository_index()] == ["READY"]
    with pytest.raises(triton.InferenceServerException, match="not taken"):
        client.load_model("toy", config="{}")


def test_system_shared_memory(client: Any) -> None:
    values = np.array([[0, 1, 2, 3]], np.float32)
    region = shared_memory.create_shared_memory_region("region", "/skerry-triton-test", 32, create_only=True)
    try:
        shared_memory.set_shared_memory_region(region, [values])
        client.register_system_shared_memory("region", "/skerry-triton-test", 32)
        assert [each["name"] for each in client.get_system_shared_memory_status()] == ["region"]
        tensor = triton.InferInput("x", [1, 4], "FP32")
        tensor.set_shared_memory("region", 16)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("region", 16, offset=16)
        result = client.infer("toy", [tensor], outputs=[wanted])
        assert result.get_output("y")["shape"] == [1, 4]
        found = shared_memory.get_contents_as_numpy(region, np.float32, [1, 4], offset=16).copy()
        assert found.tolist() == (2 * values).tolist()
        client.unregister_system_shared_memory("region")
        assert client.get_system_shared_memory_status() == []
    finally:
        shared_memory.destroy_shared_memory_region(region)
