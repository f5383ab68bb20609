"""Rows for a model: read strictly, named when wrong, written as bytes and back."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_compiler import data
from skerry_compiler.errors import DataError
from skerry_contracts.tensor import DType, TensorSpec

IMAGE = TensorSpec("image", DType.FP32, (1, 4))
PAIR = (TensorSpec("a", DType.FP32, (1, 2)), TensorSpec("b", DType.INT64, (3,)))


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # arrays of several kinds
    return path


def test_rows_by_name_or_alone(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float64).reshape(3, 4)
    for name in ("image", "anything"):
        found = data.inputs_of(data.read_npz(npz(tmp_path / "a.npz", **{name: rows}, labels=[1, 2, 3])), [IMAGE], "a")
        assert found.tensors[0].dtype == np.float32 and found.tensors[0].shape == (3, 1, 4) and len(found) == 3
        assert found.labels is not None and found.labels.tolist() == [1, 2, 3]
    found = data.inputs_of({"a": np.zeros((2, 2), np.float32), "b": np.ones((2, 3), np.int64)}, PAIR, "a")
    assert [each.shape for each in found.tensors] == [(2, 1, 2), (2, 3)]


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"image": np.zeros((3, 5), np.float32)}, "is [3, 5], [rows, 4] expected"),
        ({"image": np.zeros((3, 2, 2), np.float32)}, "[rows, 4] expected"),
        ({"image": np.zeros((0, 4), np.float32)}, "has no rows"),
        ({"image": np.zeros((3, 4), "U3")}, "float32 expected"),
        ({"image": np.zeros((3, 4), np.complex64)}, "float32 expected"),
        ({"image": np.zeros((3, 4), np.float32), "labels": np.zeros(2)}, "3 rows expected"),
        ({"x": np.zeros((3, 4)), "z": np.zeros((3, 4))}, "no array for the input 'image'"),
        ({"labels": np.zeros(3)}, "no array for the input"),
    ],
)
def test_wrong_data_is_named(arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DataError) as caught:
        data.inputs_of(arrays, [IMAGE], "cal.npz")
    assert said in str(caught.value) and "cal.npz" in str(caught.value)


def test_floats_are_not_cut_to_whole_numbers() -> None:
    with pytest.raises(DataError, match="int64 expected"):
        data.inputs_of({"a": np.zeros((2, 2)), "b": np.ones((2, 3))}, PAIR, "x")
    with pytest.raises(DataError, match="2, 3 rows"):
        data.inputs_of({"a": np.zeros((2, 2)), "b": np.ones((3, 3), np.int64)}, PAIR, "x")


@pytest.mark.parametrize("content", [b"", b"PK", b"noise" * 20])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="not an"):
        data.read_npz(tmp_path / "a.npz")


def test_pickles_and_bare_arrays_and_nothing_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(DataError):
        data.read_npz(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(DataError, match="bare array"):
        data.read_npz(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz")
    with pytest.raises(DataError, match="no arrays"):
        data.read_npz(tmp_path / "c.npz")
    with pytest.raises(DataError, match="cannot read"):
        data.read_npz(tmp_path / "none.npz")


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_bytes_are_rows_one_after_the_other(count: int, seed: int) -> None:
    rows = data.synthetic(PAIR, count)
    content = rows.to_bytes()
    assert len(content) == count * (8 + 24)
    back = data.outputs_of(content, PAIR, count)
    assert all(np.array_equal(one, two) for one, two in zip(rows.tensors, back, strict=True))
    assert content[: 8 + 24] == rows.head(1).to_bytes() and content[-32:] == rows.pick([count - 1]).to_bytes()
    with pytest.raises(DataError):
        data.outputs_of(content[:-1], PAIR, count)


def zipped(path: Path, header: str, content: bytes, name: str = "x.npy") -> Path:
    """An .npz whose one array claims what `header` says."""
    text = header.encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content)
    return path


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("<f4", "(5000000000000, 4)"),
        ("<f4", "(-5, 4)"),
        ("<f4", "(2,)"),
        ("|O", "(1,)"),
        ("<f4", "(1 if __import__('os') else 2,)"),
        ("nonsense", "(4,)"),
    ],
)
def test_arrays_that_are_not_what_they_claim(tmp_path: Path, descr: str, shape: str) -> None:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(DataError, match="not an"):
        data.read_npz(zipped(tmp_path / "a.npz", header, bytes(4)))


def test_a_file_that_grows_when_unpacked_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_FILE_BYTES", 1 << 20)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1048576,), }"
    bomb = zipped(tmp_path / "a.npz", header, bytes(4 << 20))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match="once unpacked"):
        data.read_npz(bomb)


def test_what_is_no_array_or_no_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", "hello")
    os.mkfifo(tmp_path / "pipe.npz")
    for path, said in (
        (tmp_path / "a.npz", "not an"),
        (tmp_path / "pipe.npz", "no regular file"),
        (Path("/dev/zero"), "no regular"),
    ):
        with pytest.raises(DataError, match=said):
            data.read_npz(path)
