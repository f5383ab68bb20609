"""Packed tensors come back as they were; what is no packed tensor is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts.errors import ContractError, MismatchError
from skerry_contracts.sealed import SealKey, pack, unpack
from skerry_contracts.tensor import ITEM_BYTES, DType, Tensor


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    name, dtype = draw(st.sampled_from(["x", "y", "ä"])), draw(st.sampled_from(list(DType)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    if draw(st.booleans()):
        return Tensor(name, dtype, shape, None, "a" * 64)
    size = ITEM_BYTES[dtype]
    for extent in shape:
        size *= extent
    return Tensor(name, dtype, shape, draw(st.binary(min_size=size, max_size=size)))


@given(st.lists(tensors(), max_size=3), st.lists(tensors(), max_size=3))
def test_round_trip(inputs: list[Tensor], outputs: list[Tensor]) -> None:
    assert unpack(pack(inputs, outputs)) == (tuple(inputs), tuple(outputs))


@given(st.binary(max_size=60))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ContractError):
        unpack(data)


def test_too_few_and_too_many_bytes_are_refused() -> None:
    packed = pack([Tensor("x", DType.FP32, (2,), bytes(8))], [])
    for wrong in (packed[:-1], packed + b"\0"):
        with pytest.raises(MismatchError):
            unpack(wrong)


@pytest.mark.parametrize("modulus", [b"", b"\xff" * 128, b"\x01" * 256, b"\xff" * 255 + b"\xfe", b"\xff" * 513])
def test_a_weak_key_is_no_key(modulus: bytes) -> None:
    with pytest.raises(MismatchError):
        SealKey(modulus)
