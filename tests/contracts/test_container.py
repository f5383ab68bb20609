"""The bundle file: one content has one form, and no byte can change unseen."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_contracts import codec, container
from skerry_contracts.bundle import Blob, Contract, Golden, Manifest, Predicates, Recipe, Signature, Variant
from skerry_contracts.errors import ContractError, MalformedError, MismatchError
from skerry_contracts.tensor import DType, TensorSpec


def blob(content: bytes) -> Blob:
    return Blob(codec.digest(content), len(content))


def a_manifest(contents: list[bytes]) -> bytes:
    """Return the manifest of a bundle whose first two blobs are the golden vectors and the rest one variant each."""
    variants = tuple(
        Variant(f"native-{i}", "native", "fp32", {"library": blob(each)}, Predicates("linux", "x86_64"), 1000)
        for i, each in enumerate(contents[2:])
    )
    spec = TensorSpec("image", DType.FP32, (1, 64))
    return codec.encode(
        Manifest(
            format=1,
            model="digits",
            version="1.0",
            release=1,
            target="x86-64-v3",
            signature=Signature((spec,), (TensorSpec("probabilities", DType.FP32, (1, 10)),)),
            variants=variants,
            golden=Golden(1, blob(contents[0]), blob(contents[1]), 1e-4, 1e-4, True),
            contract=Contract(),
            baseline=(),
            recipe=Recipe("skerry 0.1.0", codec.digest(b"model"), "onnx", "x86-64-v3", codec.digest(b"target")),
        )
    )


def written(contents: list[bytes], evidence: bytes | None = b"{}") -> bytes:
    file = io.BytesIO()
    container.write_container(file, a_manifest(contents), [(codec.digest(each), each) for each in contents], evidence)
    return file.getvalue()


SAMPLE = [b"inputs", b"outputs", b"\x7fELF library"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=3, max_size=6), st.none() | st.binary(max_size=50))
def test_what_is_written_is_read(contents: list[bytes], evidence: bytes | None) -> None:
    data = written(contents, evidence)
    read = container.open_container(io.BytesIO(data))
    read.verify()
    assert read.manifest_bytes == a_manifest(contents)
    assert read.bundle_id == codec.digest(read.manifest_bytes)
    assert read.evidence == evidence
    assert [read.read_blob(codec.digest(each)) for each in contents] == contents
    assert written(contents, evidence) == data


def test_any_zip_tool_can_list_it() -> None:
    with zipfile.ZipFile(io.BytesIO(written(SAMPLE))) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(["manifest.json", "evidence.json", *map(codec.digest, SAMPLE)])


def test_every_flipped_byte_is_noticed() -> None:
    data = written(SAMPLE)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x41
        with pytest.raises(ContractError):
            container.open_container(io.BytesIO(bytes(damaged))).verify()


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=5000))
def test_every_truncation_is_noticed(keep: int) -> None:
    data = written(SAMPLE)
    if keep < len(data):
        with pytest.raises(ContractError):
            container.open_container(io.BytesIO(data[:keep])).verify()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ContractError):
        container.open_container(io.BytesIO(noise))


def test_prefix_and_trailing_bytes_are_refused() -> None:
    for data in (b"#!/bin/sh\n" + written(SAMPLE), written(SAMPLE) + b"x"):
        with pytest.raises(MalformedError):
            container.open_container(io.BytesIO(data))


def rezipped(change: str) -> bytes:
    """Return the sample as Python's own zip writer would make it, with one thing that a bundle must not have."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(written(SAMPLE))) as source, zipfile.ZipFile(target, "w") as archive:
        for name in sorted(source.namelist()):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            if change == "compressed":
                info.compress_type = zipfile.ZIP_DEFLATED
            if change == "link" and name == codec.digest(SAMPLE[2]):
                info.external_attr = 0o120777 << 16
            archive.writestr(info, source.read(name))
        if change == "folder":
            archive.mkdir("zoo")
        if change == "path":
            archive.writestr("z/../../etc/passwd", b"x")
        if change == "comment":
            archive.comment = b"hello"
    return target.getvalue()


@pytest.mark.parametrize("change", ["compressed", "link", "folder", "path", "comment", "other tool"])
def test_other_zip_files_are_refused(change: str) -> None:
    with pytest.raises(MalformedError) as caught:
        container.open_container(io.BytesIO(rezipped(change)))
    assert caught.value.hint


def test_encrypted_entry_is_named() -> None:
    data = bytearray(written(SAMPLE))
    at = data.index(b"PK\1\2")
    struct.pack_into("<H", data, at + 8, 1)
    with pytest.raises(MalformedError, match="encrypted"):
        container.open_container(io.BytesIO(bytes(data)))


def test_writer_refuses_what_the_manifest_does_not_say() -> None:
    manifest = a_manifest(SAMPLE)
    pairs = [(codec.digest(each), each) for each in SAMPLE]
    for wrong in (pairs[:-1], [*pairs, (codec.digest(b"more"), b"more")], [*pairs[:-1], (pairs[-1][0], b"other")]):
        with pytest.raises(MismatchError):
            container.write_container(io.BytesIO(), manifest, wrong)
    with pytest.raises(MalformedError, match="canonical"):
        container.write_container(io.BytesIO(), manifest + b"\n", pairs)


def test_unknown_blob_is_refused() -> None:
    read = container.open_container(io.BytesIO(written(SAMPLE)))
    with pytest.raises(MismatchError):
        read.read_blob("0" * 64)


def test_large_blob_is_streamed() -> None:
    large = bytes(range(256)) * (container.CHUNK_BYTES // 256 * 2 + 1)
    read = container.open_container(io.BytesIO(written([b"a", b"b", large])))
    pieces = list(read.stream_blob(codec.digest(large)))
    assert b"".join(pieces) == large
    assert max(map(len, pieces)) <= container.CHUNK_BYTES
