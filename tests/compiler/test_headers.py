"""What artifacts say of themselves, and what is found wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_compiler.proof import headers, prove
from skerry_compiler.proof.references import references
from skerry_targets import shelf

DENSE = references()[0]
BOARDS = ["x86-64-v2", "i686", "arm64", "armhf", "raspberry-pi-zero", "riscv64", "cortex-m4", "wasm32-wasi"]
OTHERS = ["windows-x86-64", "windows-x86", "windows-arm64", "macos-arm64", "ios-arm64", "android-arm64"]


@pytest.fixture(scope="module")
def artifacts() -> dict[str, bytes]:
    return {name: prove.compiled(DENSE, shelf.get(name)) for name in (*BOARDS, *OTHERS)}


def test_every_board_gets_what_it_can_take_and_nothing_else_passes(artifacts: dict[str, bytes]) -> None:
    for name, content in artifacts.items():
        assert headers.wrong(headers.read(content), shelf.get(name)) == "", name
    strange = {"arm64": "armhf", "armhf": "riscv64", "windows-x86": "windows-x86-64", "macos-arm64": "arm64"}
    for name, other in strange.items():
        assert headers.wrong(headers.read(artifacts[other]), shelf.get(name))


def test_a_float_abi_that_is_not_the_boards_is_found(artifacts: dict[str, bytes]) -> None:
    board = shelf.get("armhf")
    soft = dataclasses.replace(board, abi=dataclasses.replace(board.abi, float_abi="soft"))
    assert "floats" in headers.wrong(headers.read(artifacts["armhf"]), soft)


def test_what_it_needs_is_found() -> None:
    library = next(iter(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*")))
    found = headers.read(library.read_bytes())
    assert found is not None and any(each.startswith("libc.so") for each in found.needs)
    assert any(each.startswith("GLIBC_2.") for each in found.needs)


@settings(max_examples=200, derandomize=True)
@given(
    st.binary(max_size=200), st.sampled_from([b"\x7fELF", b"\x7fELF\2\1\1", b"MZ", b"\0asm", b"\xcf\xfa\xed\xfe", b""])
)
def test_noise_has_no_header_or_a_harmless_one(noise: bytes, start: bytes) -> None:
    found = headers.read(start + noise)
    assert headers.wrong(found, shelf.get("arm64"))
