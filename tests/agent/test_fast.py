"""The fast channel: the same promises as over HTTP, and programs that lie, stall, flood or leave."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.agent import serving_parts as parts
from tests.agent.api_parts import Live, serving

from skerry_agent import fast_words, sockets
from skerry_agent.client import LocalClient
from skerry_agent.client_frame import Frame
from skerry_agent.errors import RequestError
from skerry_agent.fast import FastLimits
from skerry_contracts.tensor import DType, Tensor

DOCS = Path(__file__).parents[2] / "docs" / "inference-api.md"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("fast"), FastLimits(connections=4, open_s=1.0, idle_s=0.0)) as found:
        yield found


@pytest.fixture
def client(live: Live) -> Iterator[LocalClient]:
    with LocalClient(live.socket_path) as made:
        yield made


@pytest.fixture
def frame(client: LocalClient) -> Iterator[Frame]:
    with client.share("toy") as made:
        assert made.fast
        yield made


def ask(frame: Frame, *values: float, **more: Any) -> list[float]:
    """Return what the model makes of the values, by a frame."""
    frame.write("x", [*values])
    frame.infer(**more)
    return list(struct.unpack("<4f", frame.outputs["y"].cast("B")))


def raw(live: Live) -> socket.socket:
    """Return a bare connection."""
    return sockets.connect(fast_words.beside(live.socket_path), 10, socket.SOCK_SEQPACKET)


def opened(live: Live) -> tuple[socket.socket, int]:
    """Return a bare connection that has its memory, and the memory's descriptor."""
    made = raw(live)
    made.send(fast_words.model("toy"))
    answer, descriptors, _, _ = socket.recv_fds(made, fast_words.MAX_ANSWER_BYTES, 4)
    places, total = fast_words.read_memory(answer)
    assert (places, total) == ([(0, 16), (64, 16)], 128) and len(descriptors) == 1
    return made, descriptors[0]


def on_loop(live: Live, work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, live.loop).result(60)


def test_an_answer_is_counted_noted_and_sampled_like_any_other(live: Live, client: LocalClient, frame: Frame) -> None:
    before = client.stats("toy")[0]
    assert ask(frame, 0, 1, 2, 3) == [0, 2, 4, 6]
    live.settle()
    prediction = live.notes.predictions[-1]
    assert prediction.inputs == (Tensor("x", DType.FP32, (1, 4), struct.pack("<4f", 0, 1, 2, 3)),)
    assert prediction.outputs == (Tensor("y", DType.FP32, (1, 4), struct.pack("<4f", 0, 2, 4, 6)),)
    assert prediction.keep and prediction.bundle and prediction.latency_ms > 0 and prediction.wanted is None
    ask(frame, 0, 1, 1, 1, sample=False)
    live.settle()
    assert not live.notes.predictions[-1].keep
    ask(frame, 0, 1, 1, 2, capture="mine")
    live.settle()
    assert live.notes.predictions[-1].capture == "mine" and live.notes.predictions[-1].wanted == "requested"
    after = client.stats("toy")[0]
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    with pytest.raises(RequestError, match="id") as refused:
        ask(frame, 0, 1, 2, 3, capture="no / id")
    assert refused.value.status == 400
    with pytest.raises(RequestError, match="forbids"):
        ask(frame, 0, 1, 2, 3, capture="mine", sample=False)
    assert ask(frame, 0, 1, 2, 3) == [0, 2, 4, 6], "a refusal costs the connection nothing"


@pytest.mark.parametrize("kind", [parts.SEGFAULT, parts.HANG, parts.NAN, parts.FAIL], ids=lambda each: f"kind{each}")
def test_a_model_that_crashes_hangs_or_lies_costs_one_request(frame: Frame, kind: int) -> None:
    with pytest.raises(RequestError, match=r"^toy: ") as failed:
        ask(frame, kind, 0, 0, 0)
    assert failed.value.status == 500
    assert ask(frame, 0, 1, 2, 3) == [0, 2, 4, 6], "the next worker serves, and the connection stands"


def test_what_a_candidate_is_called_is_no_model(live: Live) -> None:
    for name in ("toy@trial", "nobody", "x" * 1000):
        with raw(live) as made:
            made.send(fast_words.model(name))
            answer = fast_words.read_answer(made.recv(65536))
            assert isinstance(answer, fast_words.Failed) and answer.status == 404
            assert made.recv(65536) == b"", "hung up"


@given(frames=st.lists(st.binary(min_size=1, max_size=1200), min_size=1, max_size=3), after=st.booleans())
@settings(derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_garbage_ends_its_own_connection_with_a_reason(live: Live, frames: list[bytes], after: bool) -> None:
    made, descriptor = opened(live) if after else (raw(live), -1)
    with made:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for each in frames:
                made.send(each)
        with contextlib.suppress(ConnectionResetError):
            answer = fast_words.read_answer(made.recv(65536))
            assert isinstance(answer, fast_words.Failed) and answer.status in (400, 404) and answer.text
            assert made.recv(65536) == b""
    if after:
        os.close(descriptor)
    with LocalClient(live.socket_path) as client, client.share("toy") as frame:
        assert ask(frame, 0, 1, 2, 3) == [0, 2, 4, 6]


def test_a_question_before_the_answer_to_the_last_ends_the_connection(live: Live) -> None:
    made, descriptor = opened(live)
    with made:
        os.pwrite(descriptor, struct.pack("<2f", parts.SLOW, 100), 0)
        made.send(fast_words.run(1, keep=True, capture=None))
        made.send(fast_words.run(2, keep=True, capture=None))
        answer = fast_words.read_answer(made.recv(65536))
        assert isinstance(answer, fast_words.Failed) and "one at a time" in answer.text
    os.close(descriptor)


def test_a_question_that_waits_is_the_one_that_was_asked(live: Live, client: LocalClient) -> None:
    made, descriptor = opened(live)
    with made, live.beside(lambda: client.infer("toy", {"x": [parts.SLOW, 300, 0, 0]})):
        live.until_busy()
        os.pwrite(descriptor, struct.pack("<4f", 0, 1, 2, 3), 0)
        made.send(fast_words.run(1, keep=True, capture=None))
        time.sleep(0.1)  # it waits for its turn, or lies ready behind the other
        os.pwrite(descriptor, bytes(16), 0)
        made.recv(65536)
        assert os.pread(descriptor, 16, 64) == struct.pack("<4f", 0, 2, 4, 6)
    os.close(descriptor)


def test_memory_cannot_be_taken_away_under_the_agent(live: Live) -> None:
    made, descriptor = opened(live)
    with made:
        for size in (0, 64, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        os.pwrite(descriptor, struct.pack("<4f", 0, 1, 2, 3), 0)
        punch_hole, keep_size = 2, 1
        ctypes.CDLL(None).fallocate(descriptor, punch_hole | keep_size, ctypes.c_long(0), ctypes.c_long(4096))
        os.close(descriptor)
        made.send(fast_words.run(7, keep=True, capture=None))
        assert isinstance(fast_words.read_answer(made.recv(65536)), fast_words.Done)
        live.settle()
        assert live.notes.predictions[-1].inputs[0].data == bytes(16), "a hole reads as zeros"


def test_descriptors_that_a_program_sends_are_never_taken(live: Live) -> None:
    made, descriptor = opened(live)
    with made:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for tag in range(3):
            socket.send_fds(made, [fast_words.run(tag, keep=True, capture=None)], [descriptor] * 200)
            assert isinstance(fast_words.read_answer(made.recv(65536)), fast_words.Done)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.close(descriptor)


def test_who_does_not_read_answers_loses_the_connection(live: Live, client: LocalClient) -> None:
    made, descriptor = opened(live)
    with made, pytest.raises((BrokenPipeError, ConnectionResetError)):
        for tag in range(2000):
            said = live.notes.count
            made.send(fast_words.run(tag, keep=True, capture=None))
            until = time.monotonic() + 0.3  # the last one was perhaps not even read
            while live.notes.count == said and time.monotonic() < until:
                time.sleep(0)
    os.close(descriptor)
    assert client.infer("toy", {"x": [0, 1, 2, 3]}).outputs["y"] == [0, 2, 4, 6]


def test_ten_thousand_connections_leave_those_that_stand_alone(live: Live, frame: Frame) -> None:
    held: list[socket.socket] = []
    for number in range(10_000):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.setblocking(False)
        with contextlib.suppress(BlockingIOError), sockets.address(fast_words.beside(live.socket_path)) as where:
            made.connect(where)
        held.append(made)
        if len(held) > 100:
            held.pop(0).close()
        if number % 1000 == 0:
            assert ask(frame, 0, 1, 2, number) == [0, 2, 4, 2 * number]
    with LocalClient(live.socket_path) as client, client.share("toy") as other:
        assert ask(other, 0, 1, 2, 3) == [0, 2, 4, 6], "by HTTP, if the channel is full"
    for each in held:
        each.close()


def test_a_connection_that_never_says_what_it_wants_is_ended(live: Live) -> None:
    with raw(live) as made:
        assert made.recv(65536) == b""


def test_idle_connections_make_room_and_come_back(live: Live, client: LocalClient) -> None:
    with contextlib.ExitStack() as stack:
        frames = [stack.enter_context(client.share("toy")) for _ in range(9)]  # of four
        for turn in range(2):
            for number, frame in enumerate(frames):
                assert ask(frame, 0, number, turn, 0) == [0, 2 * number, 2 * turn, 0]
        assert all(frame.fast for frame in frames)


def test_too_much_memory_is_refused_and_http_serves(tmp_path: Path) -> None:
    with serving(tmp_path, FastLimits(memory_bytes=200)) as live, LocalClient(live.socket_path) as client:
        with client.share("toy") as one, client.share("toy") as two:
            assert [each.fast for each in (one, two)] == [True, False]
            assert ask(one, 0, 1, 2, 3) == ask(two, 0, 1, 2, 3) == [0, 2, 4, 6]


def test_an_agent_without_the_channel_is_asked_over_http(tmp_path: Path) -> None:
    with serving(tmp_path) as live, LocalClient(live.socket_path) as client, client.share("toy") as frame:
        assert ask(frame, 0, 1, 2, 3) == [0, 2, 4, 6] and frame.fast
        fast_words.beside(live.socket_path).unlink()
        frame._way._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
        assert ask(frame, 0, 2, 2, 2) == [0, 4, 4, 4], "this frame goes on"
        with client.share("toy") as other:
            assert not other.fast and ask(other, 0, 1, 1, 1) == [0, 2, 2, 2]


def test_unloaded_evicted_and_loaded_again(live: Live, client: LocalClient, frame: Frame) -> None:
    slot = live.runtime.slot("toy")
    assert slot is not None
    client.unload("toy")
    with pytest.raises(RequestError, match="load") as refused:
        ask(frame, 0, 1, 2, 3)
    assert refused.value.status == 400
    client.load("toy")
    on_loop(live, slot.unload(evict=True))
    assert slot.evicted
    assert ask(frame, 0, 1, 2, 3) == [0, 2, 4, 6], "the question brought it back"
    assert not slot.evicted


def test_an_update_in_mid_stream_says_which_release_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as live, LocalClient(live.socket_path) as client, client.share("toy") as frame:
        assert ask(frame, 0, 1, 2, 3) == [0, 2, 4, 6] and frame.infer().model_version == "1"
        newer = parts.bundle(tmp_path, parts.compiled(tmp_path, FACTOR=3), version="2", factor=3)

        async def update(made: parts.Parts) -> None:
            await live.runtime.start("toy@trial", tmp_path, made.variant, made.manifest)
            live.runtime.swap("toy")

        on_loop(live, update(newer))
        assert ask(frame, 0, 1, 2, 3) == [0, 3, 6, 9] and frame.infer().model_version == "2"
        live.settle()
        assert live.notes.predictions[-1].bundle != live.notes.predictions[0].bundle
        wider = parts.bundle(tmp_path, parts.compiled(tmp_path, ELEMENTS=8), version="3", elements=8)
        on_loop(live, update(dataclasses.replace(wider)))
        for _ in range(2):
            with pytest.raises(RequestError, match="another release") as refused:
                ask(frame, 0, 1, 2, 3)
            assert refused.value.status == 409


def test_the_c_program_of_the_documentation_speaks_it(live: Live, tmp_path: Path) -> None:
    found = re.search(r"```c\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "ask.c").write_text(found[1])
    compiler = [shutil.which("gcc") or ""] if shutil.which("gcc") else [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*compiler, "-std=c11", "-Wall", "-Werror", "ask.c", "-o", "ask"], cwd=tmp_path, check=True)
    where = fast_words.beside(live.socket_path)
    for model, values, code, said in (("toy", "0 1 2 3", 0, "0 2 4 6"), ("nobody", "0", 1, "no model 'nobody'")):
        command = [str(tmp_path / "ask"), where.name, model, *values.split()]
        done = subprocess.run(command, cwd=where.parent, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code and said in done.stdout + done.stderr
