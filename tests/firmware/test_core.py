"""The agent of a microcontroller, on emulated boards: whatever is sent, however it ends, a whole model runs."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.firmware.boards import DOUBLED, KEY, MODEL, PAIR, ROW, Machinery, made

from skerry_compiler.engines.native import build as native
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import CompileError
from skerry_compiler.firmware.image import Golden, image, stream
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec
from skerry_firmware.link import LinkError, decode, encode
from skerry_targets import shelf

pytestmark = pytest.mark.boards
M4 = shelf.get("cortex-m4")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machinery]:
    found = Machinery(M4, tmp_path)
    yield found
    found.cut()


@given(st.binary(max_size=1200))
def test_frames_are_read_as_they_were_written(content: bytes) -> None:
    frame = encode(content + b"xy")
    assert frame.count(0) == 1 and decode(frame[:-1]) == content + b"xy"
    damaged = bytearray(frame)
    damaged[len(frame) // 2 - 1] ^= 0x40
    assert decode(bytes(damaged[:-1])) != content + b"xy"


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_a_board_takes_tries_and_runs_a_model(name: str, tmp_path: Path) -> None:
    profile = shelf.get(name)
    machine = Machinery(profile, tmp_path)
    try:
        assert machine.board.report().release == 0
        with pytest.raises(LinkError, match="no model"):
            machine.board.infer(ROW, 16)
        for release in (1, 2):  # one slot, then the other
            assert machine.board.install(*made(profile, release)) == release
            assert machine.board.infer(ROW, 16) == DOUBLED
        found = machine.board.report()
        assert (found.release, found.slot, found.name, found.trouble) == (2, 1, "r2", "nothing")
        machine.cut()
        machine.start()
        assert machine.board.infer(ROW, 16) == DOUBLED and machine.board.report().starts == 2
    finally:
        machine.cut()


def refused(machine: Machinery, header: bytes, stream: bytes) -> str:
    with pytest.raises(LinkError) as caught:
        machine.board.install(header, stream)
    return str(caught.value)


def test_what_is_not_for_it_is_refused_and_changes_nothing(machine: Machinery) -> None:
    header, stream = made(M4, 5)
    machine.board.install(header, stream)
    newer, body = made(M4, 6)
    forged = bytearray(newer)
    forged[4] = 7
    assert "signed" in refused(machine, bytes(forged), body)
    assert "newer" in refused(machine, header, stream)
    assert "newer" in refused(machine, *made(M4, 4))
    assert "sense" in refused(machine, bytes(256), body)
    damaged = bytearray(body)
    damaged[300] ^= 1
    assert "not whole" in refused(machine, newer, bytes(damaged))
    assert "not whole" in refused(machine, newer, body[:256])
    assert "lacks" in refused(machine, *made(shelf.get("cortex-m55"), 6))
    assert machine.board.report().release == 5 and machine.board.infer(ROW, 16) == DOUBLED
    assert machine.board.install(newer, body) == 6


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"factor": "3.0f"}, "wrong"),
        ({"factor": "(0.0f / (counted - counted))"}, "wrong"),
        ({"also": "return 3;"}, "wrong"),
        ({"also": 'for (;;) __asm__ volatile("");'}, None),
        ({"also": "*(volatile uint32_t *)0xf0000000 = 1;"}, None),
        ({"also": "((void (*)(void))0xf0000000)();"}, None),
    ],
)
def test_a_model_that_harms_is_forgotten(wrong: dict[str, Any], said: str | None, machine: Machinery) -> None:
    machine.board.install(*made(M4, 1))
    problem = refused(machine, *made(M4, 2, **wrong))
    assert said is None or said in problem
    found = machine.board.report()
    assert (found.release, found.floor) == (1, 1) and found.problem
    assert machine.board.infer(ROW, 16) == DOUBLED
    assert machine.board.install(*made(M4, 3)) == 3


def test_answers_that_are_no_floats_are_compared_to_the_bit(machine: Machinery) -> None:
    """A wrong class, read as float32, is nearer to the right one than any tolerance."""
    labels = Signature(PAIR.inputs, (TensorSpec("y", DType.INT32, (1, 4)),))
    right = native.artifact(MODEL % ("1.0f", "((int32_t *)y)[0] = 3;"), Machine.of(M4))
    for release, answer in ((1, 3), (2, 4)):
        rows = ROW + struct.pack("<i", answer) + ROW[4:]
        golden = Golden(rows, 1, 1e-6)
        sent = stream(
            image(right, M4, labels, golden, name="labels", release=release, limit_ms=500, sign=KEY.sign).content
        )
        if answer == 3:
            assert machine.board.install(*sent) == release
        else:
            assert "wrong" in refused(machine, *sent)


def test_a_model_that_harms_later_gives_way_to_the_one_before(machine: Machinery) -> None:
    machine.board.install(*made(M4, 1))
    late = 'if (counted > 10) for (;;) __asm__ volatile("");'
    machine.board.install(*made(M4, 2, also=late))
    for _ in range(20):
        try:
            assert machine.board.infer(ROW, 16) == DOUBLED
        except LinkError:
            continue
        if machine.board.report().release == 1:
            break
    assert machine.board.report().release == 1 and machine.board.infer(ROW, 16) == DOUBLED


@pytest.mark.parametrize(
    "wrong, said",
    [
        (Signature((), PAIR.outputs), "takes nothing"),
        (Signature(PAIR.inputs, (TensorSpec("y", DType.UINT8, (1, 10)),)), "'y' is not of whole words"),
        (
            Signature(PAIR.inputs * 1 + tuple(TensorSpec(f"i{k}", DType.FP32, (1, 4)) for k in range(8)), PAIR.outputs),
            "at most 8",
        ),
    ],
)
def test_a_model_that_the_core_cannot_run_is_refused_before_it_is_sent(wrong: Signature, said: str) -> None:
    code = native.artifact(MODEL % ("1.0f", ""), Machine.of(M4))
    with pytest.raises(CompileError, match=said):
        image(code, M4, wrong, Golden(ROW, 1, 1e-6), name="x", release=1, limit_ms=1, sign=KEY.sign)


def test_noise_on_the_line_is_answered_and_survived(machine: Machinery) -> None:
    machine.board.install(*made(M4, 1))
    draw = random.Random(1)
    for _ in range(40):
        machine.write(draw.randbytes(draw.randrange(200)) + b"\0")
    for kind in b"hbdfiro?":
        machine.write(encode(bytes((kind,)) + draw.randbytes(draw.randrange(1, 30))))
    machine.write(encode(b"d\1" + struct.pack("<I", 0) + bytes(300)))
    assert machine.board.report().release == 1
    assert machine.board.infer(ROW, 16) == DOUBLED


def test_the_power_goes_at_any_moment(machine: Machinery) -> None:
    """Cut between any two pages that are programmed: what runs is the old release or the new, and it answers."""
    machine.board.install(*made(M4, 1))
    release = 2
    draw = random.Random(2)
    for _ in range(12):
        header, stream = made(M4, release)
        sent = draw.randrange(len(stream) // 256 + 2)
        machine.board._word(b"b" + header)  # as install does, step by step
        for at in range(0, min(256 * sent, len(stream)), 256):
            machine.board._word(b"d" + struct.pack("<I", at) + stream[at : at + 256])
        if 256 * sent > len(stream):
            machine.write(encode(b"f\1"))  # and do not wait
        machine.cut()
        machine.start()
        found = machine.board.report()
        assert found.release in (release - 1, release) and machine.board.infer(ROW, 16) == DOUBLED
        if found.release == release:
            release += 1
    machine.board.install(*made(M4, release))
    assert machine.board.infer(ROW, 16) == DOUBLED
