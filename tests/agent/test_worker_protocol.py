"""Frames: what one side writes the other reads, and nothing else is read; and the shared region's layout and seals."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_agent import shm, worker_protocol
from skerry_agent.worker_protocol import FrameError


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255), st.text(max_size=300))
def test_replies_come_back(counter: int, elapsed_ns: int, cause: int, text: str) -> None:
    done = worker_protocol.read_reply(worker_protocol.done(counter, elapsed_ns))
    assert (done.kind, done.counter, done.elapsed_ns) == (worker_protocol.DONE, counter, elapsed_ns)
    failed = worker_protocol.read_reply(worker_protocol.failed(counter, cause, text))
    assert (failed.kind, failed.counter, failed.cause) == (worker_protocol.FAILED, counter, cause)
    assert failed.text.isprintable() and len(failed.text) <= worker_protocol.MAX_TEXT_BYTES
    assert worker_protocol.read_run(worker_protocol.run(counter, cause)) == (counter, cause)


@given(st.binary(max_size=64))
def test_anything_else_is_refused_and_never_trips(frame: bytes) -> None:
    try:
        reply = worker_protocol.read_reply(frame)
    except FrameError:
        return
    kinds = (*range(worker_protocol.LOCKED, worker_protocol.FAILED + 1), worker_protocol.PONG)
    assert reply.kind in kinds and reply.text.isprintable()


def test_a_plan_comes_back_and_one_too_large_is_refused() -> None:
    plan: worker_protocol.Plain = {"blobs": {"library": 7}, "directories": ["/usr/lib"], "threads": 1}
    assert worker_protocol.read_start(worker_protocol.start(plan)) == plan
    with pytest.raises(FrameError):
        worker_protocol.start({"directories": ["x" * worker_protocol.MAX_FRAME_BYTES]})
    with pytest.raises(FrameError):
        worker_protocol.read_start(b"")


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=8))
def test_tensors_lie_on_their_own_cache_lines(sizes: list[int]) -> None:
    starts, total = shm.offsets(sizes)
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    assert all(start % 64 == 0 for start in starts) and total % 64 == 0
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False)) and ends[-1] <= total


def test_a_region_is_shared_and_its_size_is_fixed() -> None:
    ours = shm.Region.create([100, 8], [40])
    theirs = shm.Region(os.dup(ours.fd), [100, 8], [40])
    ours.inputs[1][:] = b"8 bytes!"
    theirs.outputs[0][:5] = b"hello"
    assert bytes(theirs.inputs[1]) == b"8 bytes!" and bytes(ours.outputs[0][:5]) == b"hello"
    for size in (0, ours.size_bytes + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(theirs.fd, size)
    theirs.close()
    ours.close()
