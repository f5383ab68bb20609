"""What artifacts say of themselves, and what is found wrong with them."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import onnxruntime
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
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


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_a_board_with_a_floating_point_unit_uses_it(name: str) -> None:
    content = prove.compiled(DENSE, shelf.get(name))
    table = ELFFile(io.BytesIO(content)).get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    assert not {"__aeabi_fadd", "__aeabi_fmul", "__aeabi_fdiv"} & {each.name for each in table.iter_symbols()}


def test_a_float_abi_that_is_not_the_boards_is_found(artifacts: dict[str, bytes]) -> None:
    board = shelf.get("armhf")
    soft = dataclasses.replace(board, abi=dataclasses.replace(board.abi, float_abi="soft"))
    assert "floats" in headers.wrong(headers.read(artifacts["armhf"]), soft)


def test_what_it_needs_is_found() -> None:
    library = next(iter(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*")))
    found = headers.read(library.read_bytes())
    assert found is not None and any(each.startswith("libc.so") for each in found.needs)
    assert found.glibc is not None and found.glibc.startswith("2.")


def test_a_glibc_newer_than_the_boards_a_strange_library_and_another_system_are_found(
    artifacts: dict[str, bytes],
) -> None:
    board = shelf.get("raspberry-pi-4")
    good = headers.Header("ELF", "aarch64", 64, None, ("libc.so.6",), None, board.abi.libc_min)
    assert headers.wrong(good, board) == ""
    newer = headers.wrong(dataclasses.replace(good, glibc="2.99"), board)
    assert newer == f"it needs glibc 2.99, the board may have glibc {board.abi.libc_min}"
    assert "libgomp.so.1" in headers.wrong(dataclasses.replace(good, needs=("libc.so.6", "libgomp.so.1")), board)
    assert "libc.so.6" in headers.wrong(good, shelf.get("android-arm64"))
    assert "text relocations" in headers.wrong(dataclasses.replace(good, moves_code=True), board)
    assert (
        headers.wrong(headers.read(artifacts["macos-arm64"]), shelf.get("ios-arm64")) == "it is for macos, not for ios"
    )


@settings(max_examples=200, derandomize=True)
@given(
    st.binary(max_size=200), st.sampled_from([b"\x7fELF", b"\x7fELF\2\1\1", b"MZ", b"\0asm", b"\xcf\xfa\xed\xfe", b""])
)
def test_noise_has_no_header_or_a_harmless_one(noise: bytes, start: bytes) -> None:
    found = headers.read(start + noise)
    assert headers.wrong(found, shelf.get("arm64"))
