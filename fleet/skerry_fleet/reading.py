"""Records from devices' bytes, fast where the bytes are as every agent writes them.

The contracts' codec decides what a record is; it is plain Python, and 50 000 devices are many. msgspec reads the same
dataclasses in a twentieth of the time, but is laxer: it takes repeated keys and numbers beyond 64 bits. So its word
counts only for bytes that come out again when the record is written: canonical JSON, in which no key can stand twice.
Everything else, right or wrong, goes to the codec, so that the two never differ in what they take or what they say.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

from skerry_contracts import codec
from skerry_contracts.topics import MAX_PAYLOAD_BYTES

T = TypeVar("T")

# A field that is left out in canonical JSON, and one that stands first. Taking bytes away makes no wrong text right.
_NULL = re.compile(rb',"[a-z0-9_]+":null')
_FIRST_NULL = re.compile(rb'\{"[a-z0-9_]+":null,?')
_LONG_NUMBER = re.compile(rb"[:\[,]-?[0-9]{19}")
encode = msgspec.json.Encoder(order="sorted").encode
"""Writes a record without None fields and without floats as `codec.encode` does."""


def decode(kind: type[T], payload: bytes) -> T:
    """Return the record that the bytes hold; exactly what `codec.decode` returns or raises.

    Raises:
        MalformedError, MismatchError: see `codec.decode`.
    """
    if b"\\" not in payload and len(payload) <= MAX_PAYLOAD_BYTES:
        try:
            record: T = _decoder(cast(Any, kind))(payload)
            written = encode(record)
        except (ValueError, TypeError, OverflowError, RecursionError):  # msgspec's own errors, and the records'
            return codec.decode(kind, payload, max_bytes=MAX_PAYLOAD_BYTES)
        if b":null" in written:
            written = _NULL.sub(b"", written)
            if b":null" in written:
                written = _FIRST_NULL.sub(b"{", written)
        if written == payload and not _LONG_NUMBER.search(payload):
            return record
    return codec.decode(kind, payload, max_bytes=MAX_PAYLOAD_BYTES)


@functools.cache
def _decoder(kind: type[Any]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode
