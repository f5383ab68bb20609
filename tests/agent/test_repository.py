"""Statistics, index, load and unload through the local API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.agent import serving_parts as parts
from tests.agent.api_parts import Live, infer_body, serving

LOAD, UNLOAD = "/v2/repository/models/toy/load", "/v2/repository/models/toy/unload"
INFER = "/v2/models/toy/infer"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("repository")) as found:
        yield found


def stats(live: Live) -> dict[str, Any]:
    status, answer = live.http("GET", "/v2/models/toy/stats")
    assert status == 200
    [found] = answer["model_stats"]
    return dict(found)


def test_statistics_count_what_was_answered_and_what_was_not(live: Live) -> None:
    before = stats(live)
    for _ in range(3):
        assert live.http("POST", INFER, infer_body(parts.SLOW, 20, 0, 0))[0] == 200
    assert live.http("POST", INFER, infer_body(parts.FAIL, 0, 0, 0))[0] == 500
    assert live.http("POST", INFER, b"{}")[0] == 400  # never came to the model: not an inference
    after = stats(live)
    assert (after["name"], after["version"]) == ("toy", "1")
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] == after["inference_count"]
    found = after["inference_stats"]
    assert found["success"]["count"] == after["inference_count"]
    assert found["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
    infer_ns = found["compute_infer"]["ns"] - before["inference_stats"]["compute_infer"]["ns"]
    assert infer_ns >= 3 * 20_000_000
    whole = sum(found[part]["ns"] for part in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert found["success"]["ns"] == whole
    assert abs(after["last_inference"] / 1000 - time.time()) < 600
    assert after["memory_usage"][0]["byte_size"] > 1 << 20
    assert after["batch_stats"][0]["batch_size"] == 1
    everything = live.http("GET", "/v2/models/stats")[1]["model_stats"]
    assert [each["name"] for each in everything] == ["toy"]  # the candidate on trial is nobody's business
    assert live.http("GET", "/v2/models/toy/versions/1/stats")[1]["model_stats"][0]["name"] == "toy"


def test_a_wait_in_the_queue_is_not_the_models_time(live: Live) -> None:
    before = stats(live)["inference_stats"]
    threads = [
        threading.Thread(target=live.http, args=("POST", INFER, infer_body(parts.SLOW, 40, 0, 0))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = stats(live)["inference_stats"]
    waited_ns = after["queue"]["ns"] - before["queue"]["ns"]
    assert waited_ns > 20_000_000, "the second or third request waited for another"


def test_unload_frees_the_worker_and_keeps_the_model(live: Live) -> None:
    slot = live.runtime.slot("toy")
    assert slot is not None
    old = slot.pid
    assert live.http("POST", UNLOAD, b'{"parameters":{"unload_dependents":false}}') == (200, {})
    assert slot.pid is None
    assert live.http("POST", UNLOAD)[0] == 200, "unloading twice is no error"
    entry = {"name": "toy", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    assert live.http("POST", "/v2/repository/index") == (200, [entry])
    assert live.http("POST", "/v2/repository/index", b'{"ready":true}') == (200, [])
    assert live.http("GET", "/v2/models/toy/ready")[0] == 503
    assert live.http("GET", "/v2/health/ready")[0] == 200, "what was unloaded on purpose is not missing"
    assert live.http("GET", "/v2/models/toy")[0] == 200
    status, refused = live.http("POST", INFER, infer_body(0, 1, 2, 3))
    assert status == 400 and "unloaded" in refused["error"] and LOAD in refused["error"]
    assert next(each.state for each in live.runtime.health()) == "stopped"
    assert live.http("POST", LOAD) == (200, {})
    assert live.http("POST", LOAD) == (200, {}), "loading what serves is no error"
    assert slot.pid not in (None, old)
    assert live.http("POST", "/v2/repository/index", b"{}")[1][0] == {**entry, "state": "READY", "reason": ""}
    assert live.http("POST", INFER, infer_body(0, 1, 2, 3))[0] == 200


def test_an_inference_under_way_ends_before_its_worker(live: Live) -> None:
    answers: list[int] = []

    def ask() -> None:
        answers.append(live.http("POST", INFER, infer_body(parts.SLOW, 300, 0, 0))[0])

    thread = threading.Thread(target=ask)
    thread.start()
    while not answers and live.http("GET", "/v2/models/toy/ready")[0] == 200:
        slot = live.runtime.slot("toy")
        if slot is not None and slot.busy:
            break
    assert live.http("POST", UNLOAD)[0] == 200
    thread.join()
    assert answers == [200]
    assert live.http("POST", LOAD)[0] == 200


def test_loads_and_unloads_at_once_end_in_one_worker(live: Live) -> None:
    statuses: list[int] = []

    def ask(path: str) -> None:
        statuses.append(live.http("POST", path)[0])

    threads = [threading.Thread(target=ask, args=(path,)) for path in [LOAD, UNLOAD] * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503}
    assert live.http("POST", LOAD)[0] == 200
    assert live.http("POST", INFER, infer_body(0, 1, 2, 3))[0] == 200


def test_a_killed_worker_that_is_unloaded_stays_away(live: Live) -> None:
    live.http("POST", INFER, infer_body(parts.SEGFAULT, 0, 0, 0))
    assert live.http("POST", UNLOAD)[0] == 200
    time.sleep(0.2)
    slot = live.runtime.slot("toy")
    assert slot is not None and slot.pid is None
    assert live.http("POST", LOAD)[0] == 200


def test_a_model_that_cannot_be_loaded_again_says_why(live: Live) -> None:
    slot = live.runtime.slot("toy")
    assert slot is not None
    assert live.http("POST", UNLOAD)[0] == 200
    path = slot._blob_dir / slot.variant.blobs["library"].sha256
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    status, answer = live.http("POST", LOAD)
    assert status == 500 and "does not load" in answer["error"]
    assert live.http("POST", "/v2/repository/index")[1][0]["state"] == "UNAVAILABLE"
    path.write_bytes(data)
    assert live.http("POST", LOAD)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", LOAD, {"parameters": {"config": "{}"}}, 400),
        ("POST", LOAD, {"parameters": {"file:1/model.onnx": "AAAA"}}, 400),
        ("POST", LOAD, {"parameters": []}, 400),
        ("POST", LOAD, [], 400),
        ("POST", UNLOAD, {"parameters": {"anything": 1}}, 400),
        ("GET", LOAD, None, 405),
        ("GET", "/v2/repository/index", None, 405),
        ("POST", "/v2/repository/index", {"ready": "yes"}, 400),
        ("POST", "/v2/repository/models/nobody/load", None, 404),
        ("POST", "/v2/repository/models/toy%40trial/load", None, 404),
        ("POST", "/v2/repository/models/toy%40trial/unload", None, 404),
        ("POST", "/v2/repository/models/..%2f..%2fetc/load", None, 404),
        ("POST", "/v2/repository/models/%00/unload", None, 404),
        ("POST", "/v2/repository/models/toy/remove", None, 404),
        ("DELETE", "/v2/repository/models/toy", None, 404),
        ("POST", "/v2/repository/other/index", None, 404),
        ("POST", "/v2/models/toy/stats", None, 405),
        ("POST", "/v2/models/stats", None, 405),
        ("GET", "/v2/models/nobody/stats", None, 404),
        ("GET", "/v2/models/toy/versions/2/stats", None, 404),
    ],
)
def test_refusals_change_nothing(live: Live, method: str, path: str, body: Any, status: int) -> None:
    before = live.http("POST", "/v2/repository/index")
    found, answer = live.http(method, path, None if body is None else json.dumps(body).encode())
    assert found == status and answer["error"]
    assert live.http("POST", "/v2/repository/index") == before


@pytest.mark.parametrize("body", [b"{", b"[" * 5000, b'{"a":1,"a":2}', b'{"ready":NaN}', b"\xff", b" " * 70_000])
def test_bodies_that_are_no_request(live: Live, body: bytes) -> None:
    for path in ("/v2/repository/index", LOAD, UNLOAD):
        assert live.http("POST", path, body)[0] in (400, 413)
