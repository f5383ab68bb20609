"""Captures through the local API: what reaches the core, and what is refused before it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.agent.api_parts import Live, infer_body, serving

from skerry_agent.client import LocalClient
from skerry_agent.errors import RequestError
from skerry_contracts.sample import Kept

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}
Y = {"name": "y", "shape": [1, 4], "datatype": "FP32", "data": [0, 2, 4, 6]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("capture")) as found:
        yield found


def test_an_inference_is_captured_as_it_is_asked(live: Live) -> None:
    assert live.http("POST", "/v2/models/toy/infer", infer_body(0, 1, 2, 3, parameters={"capture": "c-1"}))[0] == 200
    noted = live.notes.predictions[-1]
    assert (noted.capture, noted.wanted) == ("c-1", Kept.REQUESTED)
    with LocalClient(live.socket_path) as client, client.share("toy") as frame:
        client.infer("toy", {"x": [0, 1, 2, 3]}, capture="c-2")
        live.settle()
        assert live.notes.predictions[-1].capture == "c-2"
        frame.infer(capture="c-3")
        live.settle()
        assert live.notes.predictions[-1].capture == "c-3"
        client.infer("toy", {"x": [0, 1, 2, 3]})
        live.settle()
        assert live.notes.predictions[-1].capture is None and live.notes.predictions[-1].wanted is None


def test_predictions_and_tensors_are_asked_for(live: Live) -> None:
    with LocalClient(live.socket_path) as client:
        answer = client.infer("toy", {"x": [0, 1, 2, 3]})
        assert client.capture("toy", "one", prediction=answer.prediction_id) == {"id": "one", "state": "buffered"}
        assert live.notes.orders["one"].prediction == answer.prediction_id
        client.capture("toy", "two", inputs={"x": np.array([[0, 1, 2, 3]], np.float32)}, outputs={"y": [0, 2, 4, 6]})
        order = live.notes.orders["two"]
        assert order.inputs[0].data == struct.pack("<4f", 0, 1, 2, 3)
        assert order.outputs[0].data == struct.pack("<4f", 0, 2, 4, 6)
        assert client.captured("two") == {"id": "two", "state": "buffered"}
        with pytest.raises(RequestError) as caught:
            client.captured("nobody")
        assert caught.value.status == 404
    status, _ = live.ask("POST", "/skerry/capture/toy", {"id": "three", "inputs": [X], "time_s": 1.5})
    assert status == 200 and live.notes.orders["three"].time_s == 1.5 and live.notes.orders["three"].outputs == ()


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        ("nobody", {"id": "a", "inputs": [X]}, 404),
        ("toy%40trial", {"id": "a", "inputs": [X]}, 404),
        ("..%2ftoy", {"id": "a", "inputs": [X]}, 404),
        ("toy", [], 400),
        ("toy", {}, 400),
        ("toy", {"inputs": [X]}, 400),
        ("toy", {"id": 7, "inputs": [X]}, 400),
        ("toy", {"id": "", "inputs": [X]}, 400),
        ("toy", {"id": "../a", "inputs": [X]}, 400),
        ("toy", {"id": "a\x00", "inputs": [X]}, 400),
        ("toy", {"id": "\ud800", "inputs": [X]}, 400),
        ("toy", {"id": "a" * 129, "inputs": [X]}, 400),
        ("toy", {"id": "a"}, 400),
        ("toy", {"id": "a", "inputs": []}, 400),
        ("toy", {"id": "a", "inputs": [Y]}, 400),
        ("toy", {"id": "a", "inputs": [X, X]}, 400),
        ("toy", {"id": "a", "inputs": [{**X, "data": [1]}]}, 400),
        ("toy", {"id": "a", "inputs": [{**X, "shape": [4]}]}, 400),
        ("toy", {"id": "a", "inputs": [{**X, "datatype": "INT8"}]}, 400),
        ("toy", {"id": "a", "inputs": {}}, 400),
        ("toy", {"id": "a", "inputs": [X], "outputs": [X]}, 400),
        ("toy", {"id": "a", "inputs": [X], "outputs": [Y, Y]}, 400),
        ("toy", {"id": "a", "inputs": [X], "outputs": {}}, 400),
        ("toy", {"id": "a", "prediction": 7}, 400),
        ("toy", {"id": "a", "prediction": "p", "inputs": [X]}, 400),
        ("toy", {"id": "a", "inputs": [X], "time_s": "now"}, 400),
        ("toy", {"id": "a", "inputs": [X], "time_s": -1}, 400),
        ("toy", {"id": "a", "inputs": [X], "time_s": True}, 400),
        ("toy", {"id": "a", "inputs": [X], "time_s": 10**400}, 400),
    ],
)
def test_requests_that_are_none_reach_nobody(live: Live, path: str, document: Any, status: int) -> None:
    before = dict(live.notes.orders)
    found, answer = live.ask("POST", f"/skerry/capture/{path}", document)
    assert found == status and answer["error"] and live.notes.orders == before


@pytest.mark.parametrize(
    "parameters", [{"capture": 7}, {"capture": ""}, {"capture": "a b"}, {"capture": "a", "sample": False}]
)
def test_an_inference_that_asks_wrongly_is_not_made(live: Live, parameters: dict[str, Any]) -> None:
    before = len(live.notes.predictions)
    assert live.http("POST", "/v2/models/toy/infer", infer_body(0, 1, 2, 3, parameters=parameters))[0] == 400
    assert len(live.notes.predictions) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/skerry/capture/nobody", 404),
        ("GET", "/skerry/capture/..%2f..%2fetc", 404),
        ("GET", "/skerry/capture/%00", 404),
        ("GET", "/skerry/capture", 404),
        ("DELETE", "/skerry/capture/toy", 405),
        ("PUT", "/skerry/capture/toy", 405),
    ],
)
def test_other_requests(live: Live, method: str, path: str, status: int) -> None:
    assert live.ask(method, path)[0] == status


def test_a_body_is_bounded_by_the_models_tensors(live: Live) -> None:
    assert live.http("POST", "/skerry/capture/toy", b" " * 100_000)[0] == 413
    assert live.http("POST", "/skerry/capture/nobody", b" " * 100_000)[0] == 413
    for body in (b"{", b"[" * 5000, b'{"id":"a","id":"b"}', b"\xff", b""):
        assert live.http("POST", "/skerry/capture/toy", body)[0] == 400
