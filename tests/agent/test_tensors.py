"""Tensors between JSON and bytes, and the search for NaN, against the plain way of doing it."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_agent.errors import RequestError
from skerry_agent.floats import all_finite, holds_nan
from skerry_agent.latency import LatencyHistogram, percentile_ms
from skerry_agent.tensors import from_json, to_json
from skerry_contracts.tensor import ITEM_BYTES, STRUCT_CODE, DType, Tensor, TensorSpec

FLOATS = {DType.FP16: 16, DType.FP32: 32, DType.FP64: 64}
ELEMENTS: dict[DType, st.SearchStrategy[Any]] = {
    DType.BOOL: st.booleans(),
    DType.UINT8: st.integers(0, 255),
    DType.UINT16: st.integers(0, 2**16 - 1),
    DType.UINT32: st.integers(0, 2**32 - 1),
    DType.UINT64: st.integers(0, 2**64 - 1),
    DType.INT8: st.integers(-128, 127),
    DType.INT16: st.integers(-(2**15), 2**15 - 1),
    DType.INT32: st.integers(-(2**31), 2**31 - 1),
    DType.INT64: st.integers(-(2**63), 2**63 - 1),
} | {
    dtype: st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    for dtype, width in FLOATS.items()
}


def nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) <= 1:
        return flat
    step = len(flat) // shape[0]
    return [nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


@given(st.data(), st.sampled_from(list(DType)), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_json_comes_back_as_it_went(data: st.DataObject, dtype: DType, shape: list[int]) -> None:
    spec = TensorSpec("x", dtype, tuple(shape))
    flat = data.draw(st.lists(ELEMENTS[dtype], min_size=spec.elements, max_size=spec.elements))
    packed = from_json(spec, flat)
    assert packed == from_json(spec, nested(flat, spec.shape))
    assert packed == struct.pack(f"<{len(flat)}{STRUCT_CODE[dtype]}", *flat)
    written = json.loads(json.dumps(to_json(Tensor("x", dtype, spec.shape, packed))))
    assert from_json(spec, written) == packed


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [
        (DType.FP32, (2, 2), [1, 2, 3]),
        (DType.FP32, (2, 2), [[1, 2], [3]]),
        (DType.FP32, (2, 2), [[1, 2, 3, 4]]),
        (DType.FP32, (2, 2), [[1, 2], [3, [4]]]),
        (DType.FP32, (2,), {"0": 1}),
        (DType.FP32, (2,), [1, "2"]),
        (DType.FP32, (2,), [1, None]),
        (DType.FP32, (2,), [1, True]),
        (DType.FP32, (2,), [1, 1e39]),
        (DType.FP32, (2,), [1, math.inf]),
        (DType.FP64, (2,), [1, 10**400]),
        (DType.FP16, (1,), [1e6]),
        (DType.UINT8, (1,), [256]),
        (DType.UINT8, (1,), [-1]),
        (DType.INT32, (1,), [1.0]),
        (DType.BOOL, (1,), [1]),
        (DType.INT8, (), 3),
    ],
)
def test_what_does_not_fit_is_refused(dtype: DType, shape: tuple[int, ...], data: Any) -> None:
    with pytest.raises(RequestError) as caught:
        from_json(TensorSpec("x", dtype, shape), data)
    assert caught.value.status == 400


def test_infinity_cannot_be_said_in_json() -> None:
    with pytest.raises(RequestError, match="infinite"):
        to_json(Tensor("y", DType.FP32, (1,), struct.pack("<f", math.inf)))


@given(st.data(), st.sampled_from(list(FLOATS)))
def test_nan_is_found_wherever_it_is(data: st.DataObject, dtype: DType) -> None:
    number = st.floats(width=FLOATS[dtype], allow_nan=True)  # type: ignore[arg-type]
    numbers = data.draw(st.lists(number, max_size=50))
    packed = memoryview(struct.pack(f"<{len(numbers)}{STRUCT_CODE[dtype]}", *numbers))
    assert holds_nan(dtype, packed) == any(map(math.isnan, numbers))
    assert all_finite(dtype, packed) == all(map(math.isfinite, numbers))


@pytest.mark.parametrize("dtype", list(FLOATS))
@pytest.mark.parametrize("place", [0, 20_000, 49_999])
def test_nan_is_found_in_large_tensors(dtype: DType, place: int) -> None:
    packed = bytearray(struct.pack("<50000" + STRUCT_CODE[dtype], *[-1.5] * 50_000))
    assert all_finite(dtype, memoryview(packed))
    struct.pack_into("<" + STRUCT_CODE[dtype], packed, place * ITEM_BYTES[dtype], math.inf)
    assert not all_finite(dtype, memoryview(packed)) and not holds_nan(dtype, memoryview(packed))
    struct.pack_into("<" + STRUCT_CODE[dtype], packed, place * ITEM_BYTES[dtype], math.nan)
    assert holds_nan(dtype, memoryview(packed))


def test_types_without_nan_hold_none() -> None:
    assert not holds_nan(DType.INT32, memoryview(b"\xff\xff\xff\xff"))


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=200), st.floats(0.01, 1))
def test_the_histogram_is_near_the_exact_percentile(elapsed_ns: list[int], share: float) -> None:
    histogram = LatencyHistogram()
    for each in elapsed_ns:
        histogram.add(each)
    exact = max(percentile_ms(sorted(elapsed_ns), share), 0.001)
    assert histogram.percentile_ms(share) == pytest.approx(exact, rel=0.03)
    histogram.clear()
    assert histogram.percentile_ms(share) == 0 and histogram.count == 0
