"""The message classes and methods that `inference.proto` describes, made when the process starts.

Reads the part of proto3 that the file uses (protobuf.dev, "Protocol Buffers Language Specification"): messages
and enumerations, nested or not, repeated, map and oneof fields, and one service. protobuf itself makes the classes and
says where a description is wrong.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTO = Path(__file__).with_name("inference.proto")
_TOKEN = re.compile(r"//[^\n]*|\s+|([A-Za-z_][\w.]*|\d+|\"[^\"\n]*\"|[{}()<>=;,])")
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One call of the service: its request and response classes, and whether either side is a stream."""

    name: str
    request: Any
    response: Any
    client_streams: bool
    server_streams: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """The service's full name, its methods and all message classes, by name."""

    service: str
    methods: dict[str, Method]
    messages: dict[str, Any]


@functools.cache
def load() -> Schema:
    """Return what the agent's own file describes."""
    return make(describe(PROTO.read_text(encoding="utf-8")))


def make(file: Any) -> Schema:
    """Return the classes of a FileDescriptorProto with one service."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindFileByName(file.name)
    messages = {
        name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.message_types_by_name.items()
    }
    (service,) = found.services_by_name.values()
    methods = {
        each.name: Method(
            each.name,
            messages[each.input_type.name],
            messages[each.output_type.name],
            each.client_streaming,
            each.server_streaming,
        )
        for each in service.methods
    }
    return Schema(service.full_name, methods, messages)


def describe(text: str) -> Any:
    """Return a FileDescriptorProto of a file's text.

    Raises:
        ValueError: something that is not read here.
    """
    tokens = _Tokens(_tokens(text))
    file = descriptor_pb2.FileDescriptorProto(name=PROTO.name)
    while (word := tokens.take(None)) is not None:
        if word == "syntax":
            tokens.take("=")
            file.syntax = tokens.name().strip('"')
            tokens.take(";")
        elif word == "package":
            file.package = tokens.name()
            tokens.take(";")
        elif word == "message":
            _message(tokens, file.message_type.add(), f".{file.package}")
        elif word == "enum":
            _enum(tokens, file.enum_type.add())
        elif word == "service":
            _service(tokens, file.service.add(), f".{file.package}")
        else:
            raise ValueError(f"{word!r} is not read here")
    return file


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None:
            raise ValueError(f"{text[at : at + 20]!r} is not read here")
        at = matched.end()
        if matched[1]:
            yield matched[1]


class _Tokens:
    def __init__(self, words: Iterator[str]) -> None:
        self._words = words

    def name(self) -> str:
        """Return the next word.

        Raises:
            ValueError: there is none.
        """
        word = next(self._words, None)
        if word is None:
            raise ValueError("the file ends too early")
        return word

    def take(self, wanted: str | None) -> str | None:
        """Return the next word (None at the end), which must be the one that is wanted, if any is."""
        word = next(self._words, None)
        if wanted is not None and word != wanted:
            raise ValueError(f"{wanted!r} was expected, not {word!r}")
        return word


def _message(tokens: _Tokens, message: Any, scope: str) -> None:
    message.name = tokens.name()
    tokens.take("{")
    scope = f"{scope}.{message.name}"
    while (word := tokens.name()) != "}":
        if word == "message":
            _message(tokens, message.nested_type.add(), scope)
        elif word == "enum":
            _enum(tokens, message.enum_type.add())
        elif word == "oneof":
            message.oneof_decl.add(name=tokens.name())
            tokens.take("{")
            while (kind := tokens.name()) != "}":
                _field(tokens, message, kind).oneof_index = len(message.oneof_decl) - 1
        elif word == "map":
            _map(tokens, message, scope)
        elif word == "repeated":
            _field(tokens, message, tokens.name()).label = _FIELD.LABEL_REPEATED
        else:
            _field(tokens, message, word)


def _enum(tokens: _Tokens, enum: Any) -> None:
    enum.name = tokens.name()
    tokens.take("{")
    while (name := tokens.name()) != "}":
        tokens.take("=")
        enum.value.add(name=name, number=int(tokens.name()))
        tokens.take(";")


def _field(tokens: _Tokens, message: Any, kind: str) -> Any:
    field = message.field.add(name=tokens.name(), label=_FIELD.LABEL_OPTIONAL)
    _type(field, kind)
    tokens.take("=")
    field.number = int(tokens.name())
    tokens.take(";")
    return field


def _type(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
    else:
        field.type_name = kind  # protobuf finds out what it is, from the inside out


def _map(tokens: _Tokens, message: Any, scope: str) -> None:
    """Add a map field: on the wire a repeated message of key (1) and value (2)."""
    tokens.take("<")
    key = tokens.name()
    tokens.take(",")
    value = tokens.name()
    tokens.take(">")
    field = _field(tokens, message, "bytes")
    entry = message.nested_type.add(name="".join(part.capitalize() for part in field.name.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, (name, kind) in enumerate((("key", key), ("value", value)), 1):
        _type(entry.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL), kind)
    field.type, field.type_name, field.label = _FIELD.TYPE_MESSAGE, f"{scope}.{entry.name}", _FIELD.LABEL_REPEATED


def _service(tokens: _Tokens, service: Any, scope: str) -> None:
    service.name = tokens.name()
    tokens.take("{")
    while tokens.name() != "}":  # rpc
        method = service.method.add(name=tokens.name())
        method.client_streaming, method.input_type = _side(tokens, scope)
        tokens.take("returns")
        method.server_streaming, method.output_type = _side(tokens, scope)
        tokens.take(";")


def _side(tokens: _Tokens, scope: str) -> tuple[bool, str]:
    tokens.take("(")
    word = tokens.name()
    streams = word == "stream"
    name = tokens.name() if streams else word
    tokens.take(")")
    return streams, f"{scope}.{name}"
