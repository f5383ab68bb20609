"""The Open Inference Protocol over gRPC, end to end: a real front process, grpcio as the client."""

from __future__ import annotations

import os
import secrets
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

grpc: Any = pytest.importorskip("grpc", reason="gRPC is an extra: pip install skerry[grpc]")

from google.protobuf import json_format  # noqa: E402  # after the skip
from tests.agent import serving_parts as parts  # noqa: E402
from tests.agent.grpc_parts import SCHEMA, Fronted, call, fronted, toy_request  # noqa: E402

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted(tmp_path_factory.mktemp("grpc")) as found:
        yield found


def infer(served: Fronted, request: Any) -> Any:
    with served.channel() as channel:
        return call(channel, "ModelInfer", request)


def refusal(served: Fronted, request: Any) -> tuple[Any, str]:
    with pytest.raises(grpc.RpcError) as caught:
        infer(served, request)
    return caught.value.code(), caught.value.details()


def test_health_and_metadata(served: Fronted) -> None:
    for port in (False, True):
        assert served.call("ServerLive", port=port).live and served.call("ServerReady", port=port).ready
    assert served.call("ModelReady", name="toy").ready and served.call("ModelReady", name="toy", version="1").ready
    assert not served.call("ModelReady", name="nobody").ready
    assert not served.call("ModelReady", name="toy", version="7").ready
    server = served.call("ServerMetadata")
    assert server.name == "skerry" and "system_shared_memory" in server.extensions
    model = served.call("ModelMetadata", name="toy")
    assert (model.name, list(model.versions), model.platform) == ("toy", ["1"], "skerry_native")
    (x,), (y,) = model.inputs, model.outputs
    assert [(each.name, each.datatype, list(each.shape)) for each in (x, y)] == [
        ("x", "FP32", [1, 4]),
        ("y", "FP32", [1, 4]),
    ]


def test_configuration_is_what_http_says(served: Fronted) -> None:
    status, said = served.live.ask("GET", "/v2/models/toy/config")
    found = json_format.MessageToDict(
        served.call("ModelConfig", name="toy").config,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    assert status == 200 and found["instance_group"] == said["instance_group"] and found["max_batch_size"] == 0
    for side in ("input", "output"):
        assert [{**each, "dims": [str(extent) for extent in each["dims"]]} for each in said[side]] == found[side]
    assert served.refused("ModelConfig", name="nobody")[0] == Code.NOT_FOUND


@pytest.mark.parametrize("raw", [True, False])
def test_infer(served: Fronted, raw: bool) -> None:
    request = toy_request(0, 1, 2, 3, raw=raw, id="mine")
    request.parameters["sample"].bool_param = False
    request.outputs.add(name="y")
    answer = infer(served, request)
    assert (answer.model_name, answer.model_version, answer.id) == ("toy", "1", "mine")
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [("y", "FP32", [1, 4])]
    assert list(answer.raw_output_contents) == [struct.pack("<4f", 0, 2, 4, 6)]
    served.live.settle()
    noted = served.live.notes.predictions[-1]
    assert answer.parameters["prediction_id"].string_param == noted.id and not noted.keep


def test_infinity_goes_and_comes_as_it_is(served: Fronted) -> None:
    answer = infer(served, toy_request(0, float("inf"), -1, 0, raw=False))
    assert list(answer.raw_output_contents) == [struct.pack("<4f", 0, float("inf"), -2, 0)]


def test_a_stream_answers_each_in_turn_and_survives_what_fails(served: Fronted) -> None:
    asked = [toy_request(0, row, 0, 0, id=str(row)) for row in range(20)]
    asked[7].inputs[0].name = "z"
    asked[9].model_name = "nobody"
    method = SCHEMA.methods["ModelStreamInfer"]
    with served.channel() as channel:
        stream = channel.stream_stream(
            f"/{SCHEMA.service}/ModelStreamInfer", method.request.SerializeToString, method.response.FromString
        )
        answers = list(stream(iter(asked), timeout=60))
    assert [each.infer_response.id for each in answers] == [str(row) for row in range(20)]
    assert {row: each.error_message for row, each in enumerate(answers) if each.error_message} == {
        7: "no input is called 'z' (inputs: x)",
        9: "no model 'nobody' here (models: toy)",
    }
    assert answers[19].infer_response.raw_output_contents[0] == struct.pack("<4f", 0, 38, 0, 0)


def wrong_requests() -> dict[str, tuple[Any, Any, str]]:
    found = {
        "no model": (toy_request(0, 0, 0, 0), Code.NOT_FOUND, "no model 'nobody' here"),
        "a candidate": (toy_request(0, 0, 0, 0), Code.NOT_FOUND, "no model 'toy@trial' here"),
        "version": (toy_request(0, 0, 0, 0, model_version="7"), Code.NOT_FOUND, "toy has no version '7' here"),
        "a path": (toy_request(0, 0, 0, 0), Code.NOT_FOUND, "no model '../toy/versions/1' here"),
        "type": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "input 'x' is 'FP64', the model takes FP32"),
        "shape": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "has shape [1, 4, 1], the model takes [1, 4]"),
        "too few": (toy_request(0, 0), Code.INVALID_ARGUMENT, "binary_data_size is 8, the tensor has 16"),
        "typed, too few": (toy_request(0, 0, raw=False), Code.INVALID_ARGUMENT, "is 8, the tensor has 16"),
        "no data": (toy_request(raw=False), Code.INVALID_ARGUMENT, "is 0, the tensor has 16"),
        "twice": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "an input stands twice"),
        "both": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "'contents' beside 'raw_input_contents'"),
        "left over": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "1 of 'raw_input_contents' belong to no input"),
        "missing": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "has no entry in 'raw_input_contents'"),
        "other list": (toy_request(raw=False), Code.INVALID_ARGUMENT, "goes in 'fp32_contents', not in 'int_contents'"),
        "unlisted": (toy_request(0, 0, 0, 0, raw=False), Code.INVALID_ARGUMENT, "'FP16' has no typed contents"),
        "output": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "no such output"),
        "classes": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "classification extension is not offered"),
        "sample": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "parameter 'sample' must be true or false"),
        "region": (toy_request(raw=False), Code.NOT_FOUND, "no region is called 'mine'"),
        "not a number": (toy_request(0, 0, 0, 0), Code.INVALID_ARGUMENT, "NaN is not a JSON number"),
        "nothing": (SCHEMA.messages["ModelInferRequest"](), Code.NOT_FOUND, "no model ''"),
    }
    found["no model"][0].model_name = "nobody"
    found["a candidate"][0].model_name = "toy@trial"
    found["a path"][0].model_name = "../toy/versions/1"
    found["type"][0].inputs[0].datatype = "FP64"
    found["shape"][0].inputs[0].shape.append(1)
    found["twice"][0].inputs.append(found["twice"][0].inputs[0])
    found["twice"][0].raw_input_contents.append(bytes(16))
    found["both"][0].inputs[0].contents.fp32_contents.extend([0, 0, 0, 0])
    found["left over"][0].raw_input_contents.append(b"more")
    found["missing"][0].inputs.add(name="y", datatype="FP32", shape=[1, 4])
    found["other list"][0].inputs[0].contents.int_contents.extend([0, 0, 0, 0])
    found["unlisted"][0].inputs[0].datatype = "FP16"
    found["output"][0].outputs.add(name="z")
    found["classes"][0].outputs.add(name="y").parameters["classification"].int64_param = 2
    found["sample"][0].parameters["sample"].string_param = "no"
    found["region"][0].inputs[0].parameters["shared_memory_region"].string_param = "mine"
    found["region"][0].inputs[0].parameters["shared_memory_byte_size"].int64_param = 16
    found["not a number"][0].parameters["x"].double_param = float("nan")
    return found


WRONG = wrong_requests()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_refused_with_code_and_words(served: Fronted, name: str) -> None:
    request, code, words = WRONG[name]
    found = refusal(served, request)
    assert found[0] == code and words in found[1] and "\n" not in found[1]


def test_refusals_say_what_http_clients_hear(served: Fronted) -> None:
    document = {"inputs": [{"name": "z", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}
    status, answer = served.live.ask("POST", "/v2/models/toy/infer", document)
    request = toy_request(0, 0, 0, 0)
    request.inputs[0].name = "z"
    assert status == 400 and refusal(served, request) == (Code.INVALID_ARGUMENT, answer["error"])
    status, answer = served.live.ask("GET", "/v2/models/nobody")
    assert status == 404 and served.refused("ModelMetadata", name="nobody") == (Code.NOT_FOUND, answer["error"])


def test_what_fails_has_its_code_and_the_next_is_answered(served: Fronted) -> None:
    for kind, words in [(parts.SEGFAULT, "SIGSEGV"), (parts.HANG, "0.5 s"), (parts.NAN, "NaN")]:
        code, details = refusal(served, toy_request(kind, 0, 0, 0))
        assert code in (Code.INTERNAL, Code.UNAVAILABLE) and words in details
        served.until(lambda: served.call("ModelReady", name="toy").ready, "the worker is back")
    assert infer(served, toy_request(0, 1, 0, 0)).raw_output_contents[0] == struct.pack("<4f", 0, 2, 0, 0)


def test_a_deadline_ends_the_call_and_nothing_else(served: Fronted) -> None:
    with served.channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ModelInfer", toy_request(parts.SLOW, 400, 0, 0), timeout=0.1)
        assert caught.value.code() == Code.DEADLINE_EXCEEDED
        assert call(channel, "ModelInfer", toy_request(0, 1, 0, 0)).outputs


def test_what_is_too_large_is_refused_at_either_limit(served: Fronted) -> None:
    request = toy_request(0, 0, 0, 0)
    request.raw_input_contents[0] = bytes(1 << 20)  # more than the model can take, less than a message may have
    code, words = refusal(served, request)
    assert code == Code.RESOURCE_EXHAUSTED and "bytes" in words
    request.raw_input_contents[0] = bytes(8 << 20)
    assert refusal(served, request)[0] == Code.RESOURCE_EXHAUSTED
    assert served.call("ServerLive").live


def test_statistics(served: Fronted) -> None:
    before = served.call("ModelStatistics", name="toy").model_stats[0].inference_count
    infer(served, toy_request(0, 1, 2, 3))
    (after,) = served.call("ModelStatistics").model_stats
    assert after.name == "toy" and after.inference_count == before + 1
    assert after.inference_stats.success.ns > 0 and after.batch_stats[0].batch_size == 1
    assert after.memory_usage[0].byte_size > 0 and after.last_inference > 0


def test_load_unload_and_index(served: Fronted) -> None:
    def index(**fields: Any) -> list[tuple[str, str, str]]:
        models = served.call("RepositoryIndex", **fields).models
        return [(each.name, each.state, each.reason) for each in models]

    assert not served.refused("RepositoryModelUnload", model_name="nobody")[1].startswith("[")
    assert served.call("RepositoryModelUnload", model_name="toy").isUnloaded
    assert not served.call("ModelReady", name="toy").ready and served.call("ServerReady").ready
    assert index() == [("toy", "UNAVAILABLE", "unloaded")] and index(ready=True) == []
    code, words = refusal(served, toy_request(0, 0, 0, 0))
    assert code == Code.INVALID_ARGUMENT and "unloaded" in words
    # KServe's file has the model's name in the first field.
    loaded = served.call("RepositoryModelLoad", repository_name="toy")
    assert loaded.isLoaded and loaded.model_name == "toy"
    assert index(ready=True) == [("toy", "READY", "")]
    more = SCHEMA.messages["ModelRepositoryParameter"](bytes_param=b"\xff\x00")
    code, words = served.refused("RepositoryModelLoad", model_name="toy", parameters={"file:1/model": more})
    assert code == Code.INVALID_ARGUMENT and "'file:1/model' is not taken" in words


@pytest.fixture
def shared() -> Iterator[Path]:
    path = Path("/dev/shm", f"skerry-test-{secrets.token_hex(8)}")
    path.write_bytes(struct.pack("<8f", 0, 1, 2, 3, 9, 9, 9, 9))
    yield path
    path.unlink(missing_ok=True)


def placed(offset: int) -> dict[str, Any]:
    parameter = SCHEMA.messages["InferParameter"]
    where = {"shared_memory_offset": parameter(int64_param=offset)} if offset else {}
    return {
        "shared_memory_region": parameter(string_param="r"),
        "shared_memory_byte_size": parameter(int64_param=16),
        **where,
    }


@pytest.mark.parametrize("port", [False, True])
def test_system_shared_memory(served: Fronted, shared: Path, port: bool) -> None:
    key = f"/{shared.name}"
    served.call("SystemSharedMemoryRegister", name="r", key=key, byte_size=32, port=port)
    regions = served.call("SystemSharedMemoryStatus", port=port).regions
    assert [(each.key, each.offset, each.byte_size) for each in regions.values()] == [(key, 0, 32)]
    assert list(served.call("SystemSharedMemoryStatus", name="r", port=port).regions) == ["r"]
    request = SCHEMA.messages["ModelInferRequest"](model_name="toy")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4], parameters=placed(0))
    request.outputs.add(name="y", parameters=placed(16))
    answer = infer(served, request)
    assert struct.unpack("<8f", shared.read_bytes()) == (0, 1, 2, 3, 0, 2, 4, 6)
    assert answer.outputs[0].parameters["shared_memory_region"].string_param == "r"
    assert list(answer.raw_output_contents) == [b""]
    code, words = served.refused("SystemSharedMemoryRegister", name="r", key=key, byte_size=32, port=port)
    assert code == Code.INVALID_ARGUMENT and "registered already" in words
    served.call("SystemSharedMemoryUnregister", name="r", port=port)
    assert not served.call("SystemSharedMemoryStatus", port=port).regions
    assert served.refused("SystemSharedMemoryStatus", name="r", port=port)[0] == Code.NOT_FOUND


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to ask as another user")
def test_regions_belong_to_the_user_who_asks_not_to_the_front(served: Fronted, shared: Path) -> None:
    served.call("SystemSharedMemoryRegister", name="mine", key=f"/{shared.name}", byte_size=32)
    script = f"""
import os, sys
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
import grpc
from tests.agent.grpc_parts import call, SCHEMA
os.setgroups([]); os.setuid(4242)
with grpc.insecure_channel("127.0.0.1:{served.said["port"]}") as channel:
    assert not call(channel, "SystemSharedMemoryStatus", SCHEMA.messages["SystemSharedMemoryStatusRequest"]()).regions
    asked = SCHEMA.messages["SystemSharedMemoryRegisterRequest"](name="r", key="/{shared.name}", byte_size=32)
    try:
        call(channel, "SystemSharedMemoryRegister", asked)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED and "another user" in error.details(), error.details()
    else:
        raise AssertionError("it was registered")
    call(channel, "SystemSharedMemoryUnregister", SCHEMA.messages["SystemSharedMemoryUnregisterRequest"]())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert list(served.call("SystemSharedMemoryStatus").regions) == ["mine"]
    served.call("SystemSharedMemoryUnregister")
