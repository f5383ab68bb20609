"""More requests than a model can answer, through the local API: who is refused, how it is said, who is not run."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent import serving_parts as parts
from tests.agent.api_parts import Live, infer_body, serving

from skerry_agent.client import LocalClient
from skerry_agent.errors import RequestError
from skerry_agent.http_words import refusal
from skerry_agent.slot import Slot
from skerry_agent.supervision import ModelConfig

INFER = "/v2/models/toy/infer"
SLOW = infer_body(parts.SLOW, 250, 0, 0)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    models = {"toy": ModelConfig(instances=2, queue=2)}
    with serving(tmp_path_factory.mktemp("overload"), models=models, cores=2) as found:
        slot = found.runtime.slot("toy")
        assert slot is not None
        until(found, lambda: slot.serving == 2)
        yield found


def until(live: Live, condition: Any) -> None:
    while not condition():
        live.settle()


def toy_slot(live: Live) -> Slot:
    slot = live.runtime.slot("toy")
    assert slot is not None
    return slot


@contextlib.contextmanager
def asked(live: Live, *bodies: bytes) -> Iterator[list[tuple[int, Any]]]:
    """Ask with each body on its own connection, in order; their answers are there afterwards."""
    answers: list[tuple[int, Any]] = [(0, None)] * len(bodies)

    def ask(at: int) -> None:
        answers[at] = live.http("POST", INFER, bodies[at])

    threads = []
    slot = toy_slot(live)
    for at in range(len(bodies)):
        before = slot.busy + slot.waiting
        threads.append(threading.Thread(target=ask, args=(at,)))
        threads[-1].start()
        until(live, lambda before=before: slot.busy + slot.waiting > before)
    try:
        yield answers
    finally:
        for thread in threads:
            thread.join()


def test_what_finds_no_place_is_told_when_to_ask_again(live: Live) -> None:
    with asked(live, *[SLOW] * 4) as answers:
        slot = toy_slot(live)
        assert (slot.busy, slot.waiting) == (2, 2)
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
        connection.request("POST", INFER, SLOW)
        response = connection.getresponse()
        said = json.loads(response.read())
        connection.close()
        assert response.status == 503 and "busy: 2 requests wait" in said["error"]
        assert int(response.headers["retry-after"]) >= 1
        assert live.http("GET", "/v2/models/toy")[0] == 200, "only inferences are refused"
    assert [status for status, _ in answers] == [200] * 4


@pytest.mark.parametrize(("after_s", "said"), [(0.0, "1"), (0.2, "1"), (1.2, "2"), (40.0, "40")])
def test_retry_after_is_a_whole_number_of_seconds(after_s: float, said: str) -> None:
    found = refusal(RequestError("busy", status=503, retry_after_s=after_s))
    assert found.status == 503 and found.headers == (("retry-after", said),)
    assert refusal(RequestError("gone", status=404)).headers == ()


def test_a_request_with_a_timeout_is_refused_in_time_and_not_run(live: Live) -> None:
    slot = toy_slot(live)
    before = slot.counters.predictions
    with asked(live, SLOW, SLOW) as answers:
        status, said = live.http("POST", INFER, infer_body(0, 1, 2, 3, parameters={"timeout": 1000}))
        assert status == 503 and "in time" in said["error"]
        assert slot.busy == 2, "the answer came only when the workers were free"
    assert [status for status, _ in answers] == [200, 200]
    assert slot.counters.predictions - before == 2
    assert live.http("POST", INFER, infer_body(0, 1, 2, 3, parameters={"timeout": 0}))[0] == 200
    for timeout in (-1, 1.5, "soon", True):
        status, said = live.http("POST", INFER, infer_body(0, 1, 2, 3, parameters={"timeout": timeout}))
        assert status == 400 and "timeout" in said["error"]


def test_a_request_whose_program_is_gone_is_not_run(live: Live) -> None:
    slot = toy_slot(live)
    before = slot.counters.predictions
    with asked(live, SLOW, SLOW):
        with socket.socket(socket.AF_UNIX) as leaving:
            leaving.connect(str(live.socket_path))
            body = infer_body(0, 1, 2, 3)
            leaving.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            until(live, lambda: slot.waiting == 1)
        until(live, lambda: slot.waiting == 0)
        assert slot.busy == 2, "it was not taken out, but run"
    assert slot.counters.predictions - before == 2


def test_one_that_only_stopped_sending_gets_its_answer(live: Live) -> None:
    slot = toy_slot(live)
    with asked(live, SLOW, SLOW), socket.socket(socket.AF_UNIX) as patient:
        patient.connect(str(live.socket_path))
        body = infer_body(0, 1, 2, 3)
        patient.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        patient.shutdown(socket.SHUT_WR)
        until(live, lambda: slot.waiting == 1)
        with patient.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 200 \r\n"


def test_a_program_that_leaves_during_unload_does_not_stop_it_half_way(live: Live) -> None:
    slot = toy_slot(live)
    pids = [each.pid for each in slot.instances]
    with asked(live, SLOW), socket.socket(socket.AF_UNIX) as leaving:
        leaving.connect(str(live.socket_path))
        leaving.sendall(b"POST /v2/repository/models/toy/unload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        until(live, lambda: slot.unloaded)
    until(live, lambda: not slot.instances)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert live.http("POST", "/v2/repository/models/toy/load")[0] == 200
    until(live, lambda: slot.serving == 2)


def test_a_program_is_one_client_with_all_its_connections(live: Live) -> None:
    """Two connections of this process fill the queue; the port's connection, a client by itself, takes a place."""
    slot, statuses = toy_slot(live), list[int]()

    def ask() -> None:
        with LocalClient(live.socket_path) as client:
            try:
                client.infer("toy", {"x": [0.0, 1.0, 2.0, 3.0]})
                statuses.append(200)
            except RequestError as error:
                statuses.append(error.status)

    with asked(live, SLOW, SLOW):
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(live, lambda: slot.waiting == 2)
        assert live.http("POST", INFER, infer_body(0, 1, 2, 3))[0] == 200
        for thread in threads:
            thread.join()
    assert sorted(statuses) == [200, 503]


def test_the_configuration_says_how_the_model_is_run(live: Live) -> None:
    status, found = live.http("GET", "/v2/models/toy/config")
    assert status == 200 and found["name"] == "toy" and found["max_batch_size"] == 0
    assert found["instance_group"] == [{"name": "toy", "kind": "KIND_CPU", "count": 2}]
    assert found["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1, 4]}]
    assert live.http("GET", "/v2/models/toy/versions/1/config")[1] == found
    assert "model_configuration" in live.http("GET", "/v2")[1]["extensions"]
