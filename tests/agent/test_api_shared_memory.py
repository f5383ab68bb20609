"""System shared memory through the local API, in the real /dev/shm."""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent import serving_parts as parts
from tests.agent.api_parts import Live, serving

from skerry_agent.peers import Peer


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("regions")) as found:
        yield found


@pytest.fixture
def shared() -> Iterator[Path]:
    path = Path("/dev/shm", f"skerry-test-{secrets.token_hex(8)}")
    path.write_bytes(struct.pack("<8f", 0, 1, 2, 3, 9, 9, 9, 9))
    yield path
    path.unlink(missing_ok=True)


def at(offset: int, name: str = "r", size: int = 16) -> dict[str, Any]:
    return {"shared_memory_region": name, "shared_memory_byte_size": size, "shared_memory_offset": offset}


def infer(live: Live, inputs: dict[str, Any], outputs: dict[str, Any] | None, **more: Any) -> tuple[int, Any]:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": inputs, **more}
    document = {"inputs": [tensor], "outputs": [{"name": "y", "parameters": outputs}] if outputs else []}
    return live.ask("POST", "/v2/models/toy/infer", document)


def register(live: Live, path: Path, name: str = "r") -> int:
    size = path.stat().st_size
    return live.ask(
        "POST", f"/v2/systemsharedmemory/region/{name}/register", {"key": f"/{path.name}", "byte_size": size}
    )[0]


def test_tensors_in_and_out_through_shared_memory(live: Live, shared: Path) -> None:
    assert register(live, shared) == 200
    status, answer = infer(live, at(0), at(16))
    assert status == 200
    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 4], "parameters": at(16)}]
    assert struct.unpack("<8f", shared.read_bytes()) == (0, 1, 2, 3, 0, 2, 4, 6)
    assert live.notes.predictions[-1].inputs[0].data == struct.pack("<4f", 0, 1, 2, 3)
    assert infer(live, at(0), None)[1]["outputs"][0]["data"] == [0, 2, 4, 6]
    status, found = live.ask("GET", "/v2/systemsharedmemory/status")
    assert found == [{"name": "r", "key": f"/{shared.name}", "offset": 0, "byte_size": 32}]
    assert live.ask("GET", "/v2/systemsharedmemory/region/r/status") == (200, found)
    assert live.ask("POST", "/v2/systemsharedmemory/region/r/unregister") == (200, {})
    assert live.ask("GET", "/v2/systemsharedmemory/status") == (200, [])
    assert infer(live, at(0), None)[0] == 404


def test_what_is_wrong_with_a_place_is_said(live: Live, shared: Path) -> None:
    assert register(live, shared) == 200
    try:
        for inputs, outputs, more in [
            (at(20), None, {}),
            (at(-1), None, {}),
            (at(0, size=12), None, {}),
            (at(0, size=32), None, {}),
            ({"shared_memory_region": "r"}, None, {}),
            ({**at(0), "shared_memory_offset": "0"}, None, {}),
            ({**at(0), "shared_memory_offset": True}, None, {}),
            (at(0), None, {"data": [0, 1, 2, 3]}),
            ({**at(0), "binary_data_size": 16}, None, {}),
            (at(0), at(17), {}),
            (at(0), at(16, size=8), {}),
        ]:
            status, answer = infer(live, inputs, outputs, **more)
            assert status == 400 and answer["error"], (inputs, outputs)
        names: list[Any] = ["nobody", None, 3, {}, ["r"]]
        for name in names:
            assert infer(live, at(0, name=name), None)[0] == 404
        assert struct.unpack("<8f", shared.read_bytes())[4:] == (9, 9, 9, 9)
    finally:
        live.ask("POST", "/v2/systemsharedmemory/unregister")


def test_a_file_cut_short_during_the_inference_costs_one_answer(live: Live, shared: Path) -> None:
    shared.write_bytes(struct.pack("<8f", parts.SLOW, 100, 2, 3, 9, 9, 9, 9))
    assert register(live, shared) == 200
    before = len(live.notes.predictions)
    answers: list[int] = []
    with live.beside(lambda: answers.append(infer(live, at(0), at(16))[0])):
        live.until_busy()
        os.truncate(shared, 16)
    assert answers == [400] and shared.stat().st_size == 16
    assert len(live.notes.predictions) == before, "nobody got that answer"
    os.truncate(shared, 0)
    assert infer(live, at(0), None)[0] == 400
    live.ask("POST", "/v2/systemsharedmemory/unregister")


def test_a_region_forgotten_during_the_inference_costs_one_answer(live: Live, shared: Path) -> None:
    shared.write_bytes(struct.pack("<8f", parts.SLOW, 100, 2, 3, 9, 9, 9, 9))
    assert register(live, shared) == 200
    answers: list[int] = []
    with live.beside(lambda: answers.append(infer(live, at(0), at(16))[0])):
        live.until_busy()
        assert live.ask("POST", "/v2/systemsharedmemory/unregister")[0] == 200
    assert answers == [400]
    assert struct.unpack("<8f", shared.read_bytes())[4:] == (9, 9, 9, 9)


def test_the_kernel_says_who_asks_on_both_kinds_of_connection() -> None:
    for kind in (socket.AF_UNIX, socket.AF_INET):
        listening = socket.socket(kind)
        listening.bind("" if kind == socket.AF_UNIX else ("127.0.0.1", 0))
        listening.listen()
        with listening, socket.socket(kind) as client:
            client.connect(listening.getsockname())
            served, _ = listening.accept()
            with served:
                assert Peer(served).uid() == os.getuid()
    with socket.socket() as gone, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        gone.connect(listening.getsockname())
        served, _ = listening.accept()
        gone.close()
        with served:
            assert Peer(served).uid() is None, "a closing socket is shown as user 0"


@pytest.mark.skipif(not Path("/proc/net/tcp6").exists(), reason="this kernel has no IPv6")
def test_a_client_with_a_socket_for_both_protocols_is_known_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_INET6) as client:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # as gRPC's, Java's and Go's clients do
        client.connect((f"::ffff:{listening.getsockname()[0]}", listening.getsockname()[1]))
        served, _ = listening.accept()
        with served:
            assert Peer(served).uid() == os.getuid()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/systemsharedmemory", 404),
        ("GET", "/v2/systemsharedmemory/register", 404),
        ("POST", "/v2/systemsharedmemory/register", 404),
        ("POST", "/v2/systemsharedmemory/status", 405),
        ("GET", "/v2/systemsharedmemory/unregister", 405),
        ("GET", "/v2/systemsharedmemory/region/r/register", 405),
        ("GET", "/v2/systemsharedmemory/region/r/status", 404),
        ("POST", "/v2/systemsharedmemory/region/r/register", 400),
        ("POST", "/v2/systemsharedmemory/region/%2e%2e%2fr/register", 400),
        ("POST", "/v2/systemsharedmemory/region/%252e%252e/register", 400),
        ("POST", "/v2/systemsharedmemory/region/r%00/register", 400),
        ("POST", "/v2/cudasharedmemory/region/r/register", 404),
    ],
)
def test_other_requests_are_refused(live: Live, method: str, path: str, status: int) -> None:
    found, answer = live.ask(method, path, {} if method == "POST" else None)
    assert found == status and answer["error"]
