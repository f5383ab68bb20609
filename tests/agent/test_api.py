"""The local API end to end: real agent parts, a real worker, real sockets, our client and plain HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent import serving_parts as parts
from tests.agent.api_parts import Live, Notes, infer_body, serving

from skerry_agent.api import LocalApi
from skerry_agent.client import LocalClient
from skerry_agent.errors import RequestError
from skerry_agent.runtime import Runtime


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("api")) as found:
        yield found


def test_metadata_and_health(live: Live) -> None:
    status, server = live.http("GET", "/v2")
    assert status == 200 and server["name"] == "skerry" and "binary_tensor_data" in server["extensions"]
    assert live.http("GET", "/v2/health/live") == (200, {"live": True})
    assert live.http("GET", "/v2/health/ready") == (200, {"ready": True})
    tensors = {"datatype": "FP32", "shape": [1, 4]}
    described = {
        "name": "toy",
        "versions": ["1"],
        "platform": "skerry_native",
        "inputs": [{"name": "x", **tensors}],
        "outputs": [{"name": "y", **tensors}],
        "parameters": {"labels": ["a", "b", "c", "d"], "score_output": "y"},
    }
    assert live.http("GET", "/v2/models/toy") == (200, described)
    assert live.http("GET", "/v2/models/toy/versions/1") == (200, described)
    assert live.http("GET", "/v2/models/toy/ready") == (200, {"name": "toy", "ready": True})
    assert live.http("GET", "/v2/models/toy/versions/1/ready")[0] == 200
    status, report = live.http("GET", "/skerry/status")
    assert status == 200 and report["device"] == "dev"


def test_infer_with_json(live: Live) -> None:
    status, answer = live.http("POST", "/v2/models/toy/versions/1/infer", infer_body(0, 1, 2, 3, id="my id"))
    assert status == 200 and answer["id"] == "my id" and (answer["model_name"], answer["model_version"]) == ("toy", "1")
    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [0, 2, 4, 6]}]
    noted = live.notes.predictions[-1]
    assert noted.id == answer["parameters"]["prediction_id"] and noted.keep and noted.model == "toy"
    assert noted.inputs[0].data == struct.pack("<4f", 0, 1, 2, 3) and noted.latency_ms > 0
    live.http("POST", "/v2/models/toy/infer", infer_body(0, 1, 2, 3, parameters={"sample": False}))
    assert not live.notes.predictions[-1].keep


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", None, 404),
        ("GET", "/v2/models", None, 404),
        ("GET", "/v2/models/nobody", None, 404),
        ("GET", "/v2/models/toy@trial", None, 404),
        ("GET", "/v2/models/toy%40trial/ready", None, 404),
        ("POST", "/v2/models/toy%40trial/infer", infer_body(0, 0, 0, 0), 404),
        ("GET", "/v2/models/..%2f..%2fetc", None, 404),
        ("GET", "/v2/models/%00", None, 404),
        ("GET", "/v2/models/toy/versions/2", None, 404),
        ("GET", "/v2/models/toy/versions", None, 404),
        ("POST", "/v2/models/nobody/infer", infer_body(1, 2, 3, 4), 404),
        ("GET", "/v2/models/toy/infer", None, 405),
        ("POST", "/v2/models/toy", b"{}", 405),
        ("DELETE", "/v2", None, 405),
        ("POST", "/v2/models/toy/infer", b"{}", 400),
        ("POST", "/v2/models/toy/infer", infer_body(1, 2, 3), 400),
        ("POST", "/v2/models/toy/infer", b" " * 70_000, 413),
        ("POST", "/v2/models/toy/infer", infer_body(parts.NAN, 0, 0, 0), 500),
        ("POST", "/v2/models/toy/infer", infer_body(parts.FAIL, 0, 0, 0), 500),
        ("POST", "/v2/models/toy/infer", infer_body(parts.SEGFAULT, 0, 0, 0), 500),
        ("POST", "/v2/models/toy/infer", infer_body(parts.HANG, 0, 0, 0), 500),
    ],
)
def test_refusals_say_why_and_change_nothing(
    live: Live, method: str, path: str, body: bytes | None, status: int
) -> None:
    before = len(live.notes.predictions)
    found, answer = live.http(method, path, body)
    assert found == status and set(answer) == {"error"} and answer["error"]
    assert len(live.notes.predictions) == before
    assert live.http("POST", "/v2/models/toy/infer", infer_body(0, 5, 0, 0))[1]["outputs"][0]["data"][1] == 10


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Host": "evil.example:80"}]
)
def test_web_pages_are_refused_on_the_port(live: Live, headers: dict[str, str]) -> None:
    assert live.http("GET", "/v2", headers=headers)[0] == 403
    assert live.http("GET", "/v2", headers={"Host": f"localhost:{live.port}"})[0] == 200


def test_the_client_speaks_binary_and_keeps_its_connection(live: Live) -> None:
    with LocalClient(live.socket_path) as client:
        for values in ([0, 1.5, 2, 3], [[0, 1.5, 2, 3]], struct.pack("<4f", 0, 1.5, 2, 3)):
            answer = client.infer("toy", {"x": values})
            live.settle()
            assert answer.outputs == {"y": [0, 3, 4, 6]} and answer.shapes == {"y": (1, 4)}
            assert answer.model_version == "1" and answer.prediction_id == live.notes.predictions[-1].id
        client.infer("toy", {"x": [0, 0, 0, 0]}, sample=False)
        live.settle()
        assert not live.notes.predictions[-1].keep
        assert client.ready("toy") and not client.ready("nobody")
        assert client.get("/skerry/status")["device"] == "dev"
        with pytest.raises(RequestError) as caught:
            client.infer("nobody", {"x": [0]})
        assert caught.value.status == 404
        for bad in ({"x": [0]}, {"z": [0, 0, 0, 0]}, {"x": bytes(15)}, {}):
            with pytest.raises(RequestError) as refused:
                client.infer("toy", bad)
            assert refused.value.status == 400
        assert client.infer("toy", {"x": [0, 1, 2, 3]}).outputs["y"] == [0, 2, 4, 6]


def test_the_client_says_when_no_agent_is_there(tmp_path: Path) -> None:
    client = LocalClient(tmp_path / "none.sock")
    with pytest.raises(RequestError, match="no agent answers") as caught:
        client.get("/v2")
    assert caught.value.status == 503 and not client.ready("toy")


def test_the_client_survives_a_closed_connection(live: Live) -> None:
    with LocalClient(live.socket_path) as client:
        assert client.ready("toy")
        assert client._wire.socket is not None
        client._wire.socket.shutdown(socket.SHUT_RDWR)
        assert client.ready("toy")


def test_many_clients_at_once(live: Live) -> None:
    wrong: list[float] = []

    def work(number: int) -> None:
        with LocalClient(live.socket_path) as client:
            for i in range(30):
                found = client.infer("toy", {"x": [0, number, i, 0]}).outputs["y"]
                if found != [0, 2 * number, 2 * i, 0]:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len({each.id for each in live.notes.predictions}) == len(live.notes.predictions)


def test_a_model_that_is_not_ready_says_so(live: Live) -> None:
    slot = live.runtime.slot("toy")
    assert slot is not None and slot.pid is not None
    os.kill(slot.pid, 9)
    statuses = {live.http("GET", "/v2/models/toy/ready")[0] for _ in range(20)}
    assert statuses <= {200, 503}
    assert live.http("POST", "/v2/models/toy/infer", infer_body(0, 1, 0, 0))[0] in (200, 500)
    assert live.http("POST", "/v2/models/toy/infer", infer_body(0, 1, 0, 0))[0] == 200


def test_a_taken_port_or_socket_is_an_error(live: Live, tmp_path: Path) -> None:
    async def again(path: Path, port: int | None) -> None:
        api = LocalApi(Runtime(), Notes())
        try:
            await api.start(path, port)
        finally:
            await api.close()

    with pytest.raises(OSError, match="listens"):
        asyncio.run(again(live.socket_path, None))
    assert live.socket_path.exists()
    with pytest.raises(OSError, match="in use"):
        asyncio.run(again(tmp_path / "api.sock", live.port))
    assert not (tmp_path / "api.sock").exists()
