"""Deltas: what was taken apart comes together again, small changes are small, and nothing hostile gets far."""

from __future__ import annotations

import contextlib
import lzma
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts import delta
from skerry_contracts.delta import BLOCK_BYTES, TENSOR, WIDTHS, Delta
from skerry_contracts.errors import ContractError

A, B = "a" * 64, "b" * 64


def restore(base: bytes, body: bytes, width: int) -> bytes:
    return b"".join(delta.restored(memoryview(base), memoryview(body), width))


@given(
    pair=st.integers(0, 300).flatmap(lambda n: st.tuples(*[st.binary(min_size=n, max_size=n)] * 2)),
    width=st.sampled_from(WIDTHS),
)
def test_any_blob_comes_back_from_any_other_of_its_length(pair: tuple[bytes, bytes], width: int) -> None:
    base, target = pair
    body = delta.difference(memoryview(base), memoryview(target), width)
    assert restore(base, body, width) == target


@pytest.mark.parametrize("width", WIDTHS)
def test_blocks_of_any_length_come_back(width: int) -> None:
    dice = random.Random(width)
    for size in (BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 3):
        base, target = dice.randbytes(size), dice.randbytes(size)
        assert restore(base, delta.difference(memoryview(base), memoryview(target), width), width) == target


def test_differences_are_of_whole_numbers_with_their_carry() -> None:
    base = b"".join(each.to_bytes(4, "little") for each in (0, 255, 65535, 2**32 - 1, 7))
    target = b"".join(each.to_bytes(4, "little") for each in (1, 256, 65536, 0, 8))
    raw = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=delta._FILTERS)
    planes = raw.decompress(delta.difference(memoryview(base), memoryview(target), 4))
    assert planes == b"\1" * 5 + b"\0" * 15, "every number rose by one"


def test_small_changes_make_small_deltas() -> None:
    dice = random.Random(1)
    base = dice.randbytes(200_000)
    changed = bytes((each + (dice.random() < 0.3) - (dice.random() < 0.1)) % 256 for each in base)
    body = delta.difference(memoryview(base), memoryview(changed), 1)
    assert len(body) < 0.2 * len(changed) < len(lzma.compress(changed))


@given(junk=st.binary(max_size=200), size=st.integers(1, 5000))
def test_junk_is_refused_or_gives_what_the_digest_will_refuse(junk: bytes, size: int) -> None:
    with contextlib.suppress(ContractError):
        assert len(restore(bytes(size), junk, 1)) == size


def test_a_body_never_gives_more_than_the_base_is_long() -> None:
    bomb = delta.difference(memoryview(bytes(50_000_000)), memoryview(bytes(50_000_000)), 1)
    assert len(restore(bytes(1000), bomb, 1)) == 1000


def test_a_cut_body_is_refused() -> None:
    dice = random.Random(2)
    base, target = dice.randbytes(5000), dice.randbytes(5000)
    body = delta.difference(memoryview(base), memoryview(target), 2)
    with pytest.raises(ContractError):
        restore(base, body[: len(body) // 2], 2)


def test_header_and_body_are_told_apart() -> None:
    header = Delta(A, B, 5, TENSOR, 2)
    found, body = delta.split(delta.join(header, b"\n12\n"))
    assert found == header and bytes(body) == b"\n12\n"


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 5000, b"{}\n", delta.join(Delta(A, B, 5, TENSOR, 2), b"").replace(b'"tensor"', b'"shell"')],
)
def test_what_is_no_delta_is_refused(data: bytes) -> None:
    with pytest.raises(ContractError):
        delta.split(data)


@pytest.mark.parametrize(("method", "width"), [("tensor", 0), ("tensor", 3), ("zstd", 1), ("none", 0)])
def test_methods_and_widths_must_fit(method: str, width: int) -> None:
    with pytest.raises(ContractError):
        Delta(A, B, 5, method, width)


def test_lengths_must_be_equal() -> None:
    with pytest.raises(ContractError):
        delta.difference(memoryview(b"12"), memoryview(b"123"), 1)
