"""The fast reader beside the contracts' codec: the same record or the same refusal, whatever the bytes are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.examples import EXAMPLES

from skerry_contracts import codec, device, topics
from skerry_contracts.device import Ack, Received
from skerry_contracts.errors import ContractError
from skerry_fleet import reading

SENT = {channel.record for channel in topics.CHANNELS.values()}
RECORDS = [each for each in EXAMPLES if type(each) in SENT]


def outcome(read: Any, kind: type[Any], data: bytes) -> Any:
    try:
        return read(kind, data)
    except ContractError as error:
        return type(error), str(error)


def same(kind: type[Any], data: bytes) -> None:
    assert outcome(reading.decode, kind, data) == outcome(codec.decode, kind, data), data


@pytest.mark.parametrize("record", RECORDS, ids=lambda each: type(each).__name__)
def test_what_agents_write_is_read_fast_and_the_same(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = codec.encode(record)
    expected = codec.decode(type(record), data)
    if b"\\" not in data and b"e+" not in data and b"e-" not in data:
        monkeypatch.setattr(codec, "decode", None)  # the slow way would fail
    assert reading.decode(type(record), data) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"boot_id":"00000001-0000abcd","online":true,"session":1,"session":2}',
        '{"boot_id":"00000001-0000abcd","online":true,"session":9223372036854775807}',
        '{"boot_id":"00000001-0000abcd","online":true,"session":9223372036854775808}',
        '{"boot_id":"00000001-0000abcd","online":true,"session":-99999999999999999999999999}',
        '{"boot_id":"00000001-0000abcd","online":true,"session":1.0}',
        '{"boot_id":"00000001-0000abcd","online":1,"session":1}',
        '{"boot_id":"00000001-0000abcd","online":true,"session":true}',
        '{"boot_id":"00000001-0000abcd","online":true,"session":null}',
        '{"boot_id":"00000001-0000abcd","new":"field","online":true,"session":1}',
        '{"boot_id":"00000001-0000abcd","online":true}',
        '{"boot_id":"\\u0030000001-0000abcd","online":true,"session":1}',
        '{"boot_id":"not one","online":true,"session":1}',
        ' {"boot_id": "00000001-0000abcd", "online": true, "session": 1}',
        '{"boot_id":"00000001-0000abcd","online":true,"session":1}x',
        "[]",
        "nul",
        "",
        "[" * 5000,
    ],
)
def test_what_could_be_read_in_two_ways(text: str) -> None:
    same(device.Presence, text.encode())


def test_an_answer_is_canonical() -> None:
    for ack in (Ack(()), Ack((Received("00000001-0000abcd", (1, 2, 1 << 62)),))):
        assert reading.encode(ack) == codec.encode(ack)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_changed_records(data: st.DataObject) -> None:
    """A field taken out, put in, or replaced by anything, somewhere in a record, written in any of several ways."""
    record = data.draw(st.sampled_from(RECORDS))
    plain = codec.to_plain(record)
    place = plain
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            change = data.draw(st.sampled_from(("remove", "replace", "null", "keep")))
            if change == "remove":
                del place[key]
            elif change != "keep":
                place[key] = None if change == "null" else data.draw(_JSON)
            break
        place = place[key]
    spaced = data.draw(st.sampled_from(((",", ":"), (", ", ": "))))
    text = json.dumps(
        plain, sort_keys=data.draw(st.booleans()), separators=spaced, ensure_ascii=data.draw(st.booleans())
    )
    same(type(record), text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    """One byte changed, cut out, or doubled: repeated keys and torn texts among them."""
    record = data.draw(st.sampled_from(RECORDS))
    raw = codec.encode(record)
    start = data.draw(st.integers(0, len(raw) - 1))
    stop = data.draw(st.integers(start, min(len(raw), start + 30)))
    middle = data.draw(st.sampled_from((b"", raw[start:stop] * 2, b"0", b'"', b",", b"9" * 20)))
    same(type(record), raw[:start] + middle + raw[stop:])
