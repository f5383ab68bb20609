"""The frames of the fast channel: what is packed comes out again, and nothing else is taken for a frame."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_agent import fast_words

TAGS = st.integers(0, 2**32 - 1)
READERS: tuple[Callable[[bytes], object], ...] = (
    fast_words.read_model,
    fast_words.read_run,
    fast_words.read_memory,
    fast_words.read_answer,
)
TEXTS = st.text(max_size=60)


@given(tag=TAGS, keep=st.booleans(), capture=st.none() | st.text(min_size=1, max_size=60))
@settings(derandomize=True, max_examples=100)
def test_what_a_program_asks_comes_out_again(tag: int, keep: bool, capture: str | None) -> None:
    asked = fast_words.read_run(fast_words.run(tag, keep=keep, capture=capture))
    assert asked == fast_words.Run(tag, keep, capture)


@given(tag=TAGS, elapsed_ns=st.integers(0, 2**64 - 1), version=TEXTS, prediction=TEXTS, status=st.integers(0, 999))
@settings(derandomize=True, max_examples=100)
def test_what_the_agent_answers_comes_out_again(
    tag: int, elapsed_ns: int, version: str, prediction: str, status: int
) -> None:
    done = fast_words.done(tag, elapsed_ns, version.encode(), prediction.encode())
    assert fast_words.read_answer(done) == fast_words.Done(tag, elapsed_ns, version, prediction)
    failed = fast_words.read_answer(fast_words.failed(tag, status, version))
    assert failed == fast_words.Failed(tag, status, version)


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)), max_size=9), st.integers(0, 2**63))
@settings(derandomize=True, max_examples=100)
def test_where_tensors_lie_comes_out_again(places: list[tuple[int, int]], total: int) -> None:
    assert fast_words.read_memory(fast_words.memory(len(places) // 2, places, total)) == (places, total)


@given(st.binary(max_size=80), st.integers(0, 80))
@settings(derandomize=True, max_examples=500)
def test_anything_else_is_refused_in_words(data: bytes, cut: int) -> None:
    done = fast_words.done(1, 2, b"1", b"dev/1/1")
    for frame in (data, b"\x01\x01" + data, b"\x02" + data, b"\x41\x01" + data, b"\x42" + data, done[:cut]):
        for read in READERS:
            with contextlib.suppress(fast_words.FrameError):
                read(frame)


def test_another_version_is_refused_with_both_numbers() -> None:
    with pytest.raises(fast_words.FrameError, match=r"version 2 .* 1 is"):
        fast_words.read_model(bytes((1, 2)) + b"toy")
