"""Records to JSON and back: one strict decoder, one canonical encoder.

Canonical means: keys sorted, no white space, UTF-8, no NaN, fields that hold their default left out only where they
are None. The same record gives the same bytes on every machine, so a digest of the bytes names the record (compare
RFC 8785). Unknown fields are ignored, so that an old device understands a newer fleet; a wrong type is refused with
the path to it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin

from skerry_contracts.errors import MalformedError, MismatchError

MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32
MAX_INT = 2**63 - 1
_PLAIN = frozenset({str, int, bool, type(None)})  # types whose values are plain data already (floats may be NaN)

T = TypeVar("T")


def encode(record: Any) -> bytes:
    """Return the canonical JSON bytes of a record.

    Raises:
        MismatchError: a float is NaN or infinite, or an integer does not fit 64 bits.
    """
    return canonical_json(to_plain(record))


def canonical_json(plain: Any) -> bytes:
    """Return the canonical JSON bytes of plain data (dict, list, str, int, float, bool, None)."""
    try:
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise MismatchError("", f"cannot be written as JSON: {error}") from error


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes in lower-case hex: how every blob and bundle is named."""
    return hashlib.sha256(data).hexdigest()


def to_plain(value: Any) -> Any:
    """Return a record as plain data; None fields are left out, bytes become base64."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if (fields := _fields(typing.cast(Any, kind))) is not None:
        items = [(name, getattr(value, name)) for name in fields]
        return {name: item if type(item) in _PLAIN else to_plain(item) for name, item in items if item is not None}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise MismatchError("", f"{value} is not a JSON number")
    return value


@functools.cache
def _fields(kind: Any) -> tuple[str, ...] | None:
    """Return the names of a record's fields, None for what is no record; looked up once a type."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def parse_json(data: bytes, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> Any:
    """Return plain data from JSON bytes within limits of size, depth and numbers; a repeated key is refused.

    Raises:
        MalformedError: too long, too deep, not UTF-8, not JSON, a repeated key, or a number JSON or 64 bits cannot
            hold.
    """
    if len(data) > max_bytes:
        raise MalformedError(f"{len(data)} bytes, at most {max_bytes} are read")
    _check_depth(data)
    try:
        text = data.decode("utf-8")
        return json.loads(
            text, object_pairs_hook=_no_repeats, parse_constant=_no_constant, parse_int=_int, parse_float=_float
        )
    except UnicodeDecodeError as error:
        raise MalformedError(f"not UTF-8: {error.reason}") from error
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error.msg} at byte {error.pos}") from error


def decode(kind: type[T], data: bytes, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> T:
    """Return the record of type `kind` that the bytes hold.

    Raises:
        MalformedError: the bytes are not one JSON document within the limits.
        MismatchError: a field is missing, of another type, or refused by the record itself.
    """
    return from_plain(kind, parse_json(data, max_bytes=max_bytes))


def from_plain(kind: type[T], plain: Any, path: str = "") -> T:
    """Return the record of type `kind` that plain data describes.

    Raises:
        MismatchError: see `decode`.
    """
    reader: Reader = _reader(typing.cast(Any, kind))
    try:
        return typing.cast(
            T, reader(plain, None)
        )  # the path costs as much as the reading: it is made only for an error
    except MismatchError:
        return typing.cast(T, reader(plain, path))


def _check_depth(data: bytes) -> None:
    depth = 0
    for byte in data if data.count(b"[") + data.count(b"{") > MAX_DEPTH else b"":
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH * 4:
                raise MalformedError(f"nested deeper than {MAX_DEPTH} levels")
        elif byte in b"]}":
            depth -= 1


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> float:
    raise MalformedError(f"{name} is not a JSON number")


def _int(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INT:
        raise MalformedError("an integer does not fit 64 bits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedError("a number is too large")
    return value


Reader = Callable[[Any, str | None], Any]


@functools.cache
def _reader(kind: Any) -> Reader:
    """Return the function that reads one type; built once, so that reading is a walk without inspection."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind)
    if origin is tuple:
        item = _reader(get_args(kind)[0])
        if get_args(kind)[1:] != (Ellipsis,):
            raise TypeError(f"only tuple[X, ...] can be read, not {kind}")
        return lambda plain, path: tuple([item(each, _at(path, i)) for i, each in enumerate(_of(list, plain, path))])
    if origin is dict:
        value = _reader(get_args(kind)[1])
        return lambda plain, path: {key: value(each, _join(path, key)) for key, each in _of(dict, plain, path).items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind)
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast(type, kind))
    raise TypeError(f"a contract cannot hold {kind}")


def _optional(kind: Any) -> Reader:
    inner = [each for each in get_args(kind) if each is not type(None)]
    if len(inner) != 1:
        raise TypeError(f"only X | None can be read, not {kind}")
    read = _reader(inner[0])
    return lambda plain, path: None if plain is None else read(plain, path)


def _enum(kind: type[Enum]) -> Reader:
    def read(plain: Any, path: str | None) -> Enum:
        try:
            return kind(plain)
        except ValueError:
            raise MismatchError(
                path or "", f"{plain!r:.40} is none of {', '.join(str(each.value) for each in kind)}"
            ) from None

    return read


def _record(kind: type) -> Reader:
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    required = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    readers: dict[str, Reader] = {}

    def read(plain: Any, path: str | None) -> Any:
        if not readers:
            readers.update({field.name: _reader(hints[field.name]) for field in fields})
        values = _of(dict, plain, path)
        if missing := required - values.keys():
            raise MismatchError(_join(path, min(missing)) or "", "is missing")
        known = {name: reader(values[name], _join(path, name)) for name, reader in readers.items() if name in values}
        try:
            return kind(**known)
        except MismatchError as error:
            raise MismatchError(_join(path, error.path) or "", str(error).split(": ", 1)[-1]) from error

    return read


def _join(path: str | None, name: str) -> str | None:
    return path if path is None else f"{path}.{name}" if path and name else path or name


def _at(path: str | None, place: int) -> str | None:
    return path if path is None else f"{path}[{place}]"


def _of(kind: type, plain: Any, path: str | None) -> Any:
    if not isinstance(plain, kind):
        raise MismatchError(
            path or "", f"{_NAMES[kind]} expected, {_NAMES.get(type(plain), type(plain).__name__)} found"
        )
    return plain


def _bool(plain: Any, path: str | None) -> bool:
    return typing.cast(bool, _of(bool, plain, path))


def _integer(plain: Any, path: str | None) -> int:
    if isinstance(plain, bool):
        raise MismatchError(path or "", "whole number expected, true or false found")
    return typing.cast(int, _of(int, plain, path))


def _number(plain: Any, path: str | None) -> float:
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise MismatchError(path or "", f"number expected, {_NAMES.get(type(plain), type(plain).__name__)} found")
    return float(plain)


def _text(plain: Any, path: str | None) -> str:
    text: str = _of(str, plain, path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MismatchError(path or "", "a lone surrogate is not text") from None
    return text


def _bytes(plain: Any, path: str | None) -> bytes:
    try:
        return base64.b64decode(_text(plain, path), validate=True)
    except (binascii.Error, ValueError):
        raise MismatchError(path or "", "base64 expected") from None


_SCALARS: dict[Any, Reader] = {
    bool: _bool,
    int: _integer,
    float: _number,
    str: _text,
    bytes: _bytes,
    Any: lambda plain, path: plain,
}

_NAMES: dict[type, str] = {
    dict: "object",
    list: "list",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}
