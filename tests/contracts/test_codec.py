"""The decoder against bytes that nobody should trust."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.examples import MANIFEST

from skerry_contracts import codec
from skerry_contracts.bundle import Blob, Manifest
from skerry_contracts.device import Phase, Presence, Progress
from skerry_contracts.errors import ContractError, MalformedError, MismatchError
from skerry_contracts.tensor import Tensor

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_canonical_bytes_do_not_depend_on_order(plain: object) -> None:
    data = codec.canonical_json(plain)
    assert codec.canonical_json(codec.parse_json(data)) == data
    assert json.loads(data) == plain


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused_never_worse(data: bytes) -> None:
    try:
        codec.decode(Manifest, data)
    except ContractError as error:
        assert "\n" not in str(error)


@given(json_values)
def test_values_are_read_or_refused_never_worse(plain: object) -> None:
    for kind in (Manifest, Progress, Tensor):
        try:
            codec.from_plain(kind, plain)
        except ContractError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":%s}' % (b"9" * 400), "64 bits"),
        (b'{"a":1,"a":2}', "twice"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (b'{"a":1}{"b":2}', "not JSON"),
    ],
)
def test_malformed(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        codec.parse_json(data)


def test_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(MalformedError, match="at most 10"):
        codec.parse_json(b'"' + b"a" * 100 + b'"', max_bytes=10)


def test_the_path_leads_to_the_fault() -> None:
    plain = codec.to_plain(MANIFEST)
    plain["variants"][0]["blobs"]["library"]["sha256"] = "../../etc/passwd"
    with pytest.raises(MismatchError) as caught:
        codec.from_plain(Manifest, plain)
    assert caught.value.path == "variants[0].blobs.library.sha256"


@pytest.mark.parametrize("value", [True, "1", 1.5, None, [1]])
def test_a_whole_number_is_nothing_else(value: object) -> None:
    with pytest.raises(MismatchError, match="size_bytes"):
        codec.from_plain(Blob, {"sha256": "a" * 64, "size_bytes": value})


def test_nan_cannot_be_written() -> None:
    with pytest.raises(MismatchError):
        codec.encode(Progress("00000001-00000000", 1, float("nan"), 1, "r", "m", "b", Phase.FAILED))


def test_a_lone_surrogate_is_not_text() -> None:
    with pytest.raises(MismatchError, match="surrogate"):
        codec.decode(Presence, b'{"boot_id":"\\ud800","session":1,"online":true}')
