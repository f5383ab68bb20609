"""Our client: arrays as they lie, memory shared with the agent, and agents that go away."""

from __future__ import annotations

import array
import asyncio
import gc
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.api_parts import Live, Notes, serving
from tests.agent.serving_parts import bundle, compiled

from skerry_agent import client_memory
from skerry_agent.api import LocalApi
from skerry_agent.client import LocalClient
from skerry_agent.errors import RequestError
from skerry_agent.runtime import Runtime
from skerry_contracts.tensor import DType, TensorSpec

NUMPY = {
    DType.BOOL: "?", DType.UINT8: "u1", DType.UINT16: "u2", DType.UINT32: "u4", DType.UINT64: "u8", DType.INT8: "i1",
    DType.INT16: "i2", DType.INT32: "i4", DType.INT64: "i8", DType.FP16: "f2", DType.FP32: "f4", DType.FP64: "f8",
}  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("client")) as found:
        yield found


@pytest.fixture
def client(live: Live) -> Iterator[LocalClient]:
    with LocalClient(live.socket_path) as made:
        yield made


@pytest.fixture(params=["fast channel", "port"])
def either(live: Live, request: pytest.FixtureRequest) -> Iterator[tuple[LocalClient, int]]:
    """A client, and how many files a frame of its makes in /dev/shm."""
    port = live.port if request.param == "port" else None
    with LocalClient(None if port else live.socket_path, port=port) as made:
        yield made, int(bool(port))


def regions() -> list[str]:
    return [each.name for each in Path("/dev/shm").glob(f"skerry-{os.getpid()}-*")]


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 1.5, 2, 3]], np.float32),
        np.array([[0, 1.5, 2, 3]] * 2, np.float32).T.copy()[:, 0],
        np.arange(8, dtype=np.float32)[::2] * 0 + np.array([0, 1.5, 2, 3], np.float32),
        array.array("f", [0, 1.5, 2, 3]),
        memoryview(struct.pack("<4f", 0, 1.5, 2, 3)),
        bytearray(struct.pack("<4f", 0, 1.5, 2, 3)),
        (0, 1.5, 2, 3),
    ],
    ids=lambda each: type(each).__name__,
)
def test_arrays_go_as_they_lie(client: LocalClient, values: Any) -> None:
    answer = client.infer("toy", {"x": values})
    assert answer.outputs == {"y": [0, 3, 4, 6]} and answer.shapes == {"y": (1, 4)}
    assert np.asarray(answer.views["y"]).tolist() == [[0, 3, 4, 6]]


def test_a_strided_array_goes_in_its_own_order(client: LocalClient) -> None:
    backwards = np.array([[3, 2, 1, 0]], np.float32)[:, ::-1]
    assert client.infer("toy", {"x": backwards}).outputs["y"] == [0, 2, 4, 6]


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "u4", ">f4", "?"])
def test_an_array_of_another_type_is_refused_and_not_converted(client: LocalClient, dtype: str) -> None:
    with pytest.raises(RequestError, match="FP32"):
        client.infer("toy", {"x": np.zeros((1, 4), dtype)})
    with client.share("toy") as frame, pytest.raises(RequestError, match="FP32"):
        frame.write("x", np.zeros((1, 4), dtype))


@given(dtype=st.sampled_from(sorted(NUMPY)), shape=st.lists(st.integers(1, 4), max_size=3), seed=st.integers(0, 2**32))
@settings(derandomize=True, max_examples=100)
def test_every_type_and_shape_is_what_numpy_says(dtype: DType, shape: list[int], seed: int) -> None:
    spec = TensorSpec("t", dtype, tuple(shape))
    data = np.random.default_rng(seed).bytes(spec.size_bytes)
    wanted = np.frombuffer(data, NUMPY[dtype]).reshape(shape)
    view = np.asarray(client_memory.typed(spec, memoryview(bytearray(data))))
    assert view.shape == wanted.shape and view.tobytes() == data
    assert view.dtype == wanted.dtype or (dtype is DType.FP16 and view.view("f2").dtype == wanted.dtype)
    assert bytes(client_memory.buffer(spec, wanted)) == data
    for other, code in NUMPY.items():
        if other is not dtype and shape:
            array = np.zeros(shape, code)
            if array.ndim == 1 and array.itemsize == 1 and array.dtype.kind in "iu":
                continue  # one row of bytes stands for raw data
            with pytest.raises(RequestError):
                client_memory.buffer(spec, array)


def test_shared_memory_in_and_out(either: tuple[LocalClient, int], live: Live) -> None:
    client, files = either
    with client.share("toy") as frame:
        assert frame.inputs["x"].shape == (1, 4) and frame.outputs["y"].format == "f"
        given_views = np.asarray(frame.inputs["x"]), np.asarray(frame.outputs["y"])
        for values in ([0, 1, 2, 3], [0, 7, 8, 9]):
            given_views[0][:] = values
            answer = frame.infer(id="mine")
            live.settle()
            assert given_views[1].tolist() == [[2 * value for value in values]]
            assert answer.prediction_id == live.notes.predictions[-1].id and answer.model_version == "1"
        frame.write("x", [0, 1, 1, 1])
        frame.infer(sample=False)
        live.settle()
        assert np.asarray(frame.outputs["y"]).tolist() == [[0, 2, 2, 2]] and not live.notes.predictions[-1].keep
        wrong: list[tuple[str, Any]] = [("z", [0]), ("x", bytes(15)), ("x", [1])]
        for name, values in wrong:
            with pytest.raises(RequestError):
                frame.write(name, values)
        assert len(regions()) == files
    assert regions() == [] and client.get("/v2/systemsharedmemory/status") == []
    assert given_views[1].tolist() == [[0, 2, 2, 2]], "a view in use outlives the frame"


def test_two_frames_do_not_meet(either: tuple[LocalClient, int]) -> None:
    client, _ = either
    with client.share("toy") as one, client.share("toy") as two:
        one.write("x", [0, 1, 1, 1])
        two.write("x", [0, 2, 2, 2])
        one.infer(), two.infer()
        found = [np.asarray(frame.outputs["y"]).tolist() for frame in (one, two)]
        assert found == [[[0, 2, 2, 2]], [[0, 4, 4, 4]]]


def test_a_forgotten_frame_leaves_nothing_behind(either: tuple[LocalClient, int]) -> None:
    client, files = either
    frame = client.share("toy")
    assert len(regions()) == files
    del frame
    gc.collect()
    assert regions() == []
    client.post("/v2/systemsharedmemory/unregister")
    with pytest.raises(RequestError):
        client.share("nobody")
    assert regions() == []


def test_the_port_serves_like_the_socket(live: Live) -> None:
    with LocalClient(port=live.port) as client, client.share("toy") as frame:
        assert client.infer("toy", {"x": [0, 1, 2, 3]}).outputs["y"] == [0, 2, 4, 6]
        frame.write("x", [0, 1, 2, 3])
        frame.infer()
        assert np.asarray(frame.outputs["y"]).tolist() == [[0, 2, 4, 6]]
    with pytest.raises(RequestError):
        LocalClient()


def test_statistics_repository_load_and_unload(client: LocalClient) -> None:
    before = client.stats("toy")[0]["inference_count"]
    client.infer("toy", {"x": [0, 1, 2, 3]})
    assert client.stats()[0]["inference_count"] == before + 1
    client.unload("toy")
    assert [each["state"] for each in client.repository()] == ["UNAVAILABLE"] and not client.ready("toy")
    with pytest.raises(RequestError, match="unloaded"):
        client.infer("toy", {"x": [0, 1, 2, 3]})
    client.load("toy")
    assert [each["state"] for each in client.repository()] == ["READY"] and client.ready("toy")
    for name in ("nobody", "a b", "../x", "x\r\nY: z", "ä", "a/b", "%2e"):
        for call in (client.load, client.unload, client.stats, client.share):
            with pytest.raises(RequestError) as caught:
                call(name)
            assert caught.value.status == 404


def test_a_frame_survives_an_agent_that_was_started_anew(tmp_path: Path) -> None:
    toy = bundle(tmp_path, compiled(tmp_path))
    path = tmp_path / "api.sock"
    again, stop, up = asyncio.Event(), asyncio.Event(), threading.Semaphore(0)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        runtime = Runtime()
        await runtime.start("toy", tmp_path, toy.variant, toy.manifest)
        for event in (again, stop):
            api = LocalApi(runtime, Notes())
            await api.start(path)
            up.release()
            await event.wait()
            await api.close()
        await runtime.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    up.acquire()
    try:
        with LocalClient(path) as client, client.share("toy") as frame:
            frame.write("x", [0, 1, 2, 3])
            frame.infer()
            loops[0].call_soon_threadsafe(again.set)
            up.acquire()
            frame.write("x", [0, 2, 2, 2])
            frame.infer()
            assert np.asarray(frame.outputs["y"]).tolist() == [[0, 4, 4, 4]]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
    with pytest.raises(RequestError, match="no agent answers"), LocalClient(path) as gone:
        gone.repository()
