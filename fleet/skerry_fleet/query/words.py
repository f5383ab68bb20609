"""The words of device queries: fields with their sorts, and the tree that a query is read to."""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class Sort(StrEnum):
    """What a field holds. A set holds any number of texts, and is equal to each of them."""

    TEXT = "text"
    WHOLE = "whole number"
    FLAG = "true or false"
    TIME = "time"
    SET = "set of texts"


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field of devices. `key` names what stands behind its dot (empty: no dot), as in `tag.site`."""

    sort: Sort
    key: str
    words: str


FIELDS: dict[str, Field] = {
    "name": Field(Sort.TEXT, "", "the device's name"),
    "profile": Field(Sort.TEXT, "", "its target profile, such as raspberry-pi-4"),
    "os": Field(Sort.TEXT, "", "its operating system"),
    "machine": Field(Sort.TEXT, "", "its architecture, such as aarch64"),
    "cpu": Field(Sort.TEXT, "", "its processor"),
    "feature": Field(Sort.SET, "", "features of its processor, such as avx2"),
    "cores": Field(Sort.WHOLE, "", "its processor's cores"),
    "memory_bytes": Field(Sort.WHOLE, "", "its memory"),
    "libc": Field(Sort.TEXT, "", "its C library"),
    "engine": Field(Sort.TEXT, "engine", "the version of an engine that it has"),
    "agent_version": Field(Sort.TEXT, "", "its agent"),
    "tag": Field(Sort.TEXT, "tag", "the value of one of its tags"),
    "group": Field(Sort.SET, "", "groups that it was put into"),
    "claim": Field(Sort.TEXT, "", "the claim that it enrolled with"),
    "shard": Field(Sort.WHOLE, "", "its broker shard, counted from 0"),
    "online": Field(Sort.FLAG, "", "connected"),
    "silent": Field(Sort.FLAG, "", "unheard for too long"),
    "lost": Field(Sort.FLAG, "", "its connection broke and is not back"),
    "last_seen": Field(Sort.TIME, "", "when it was last heard of"),
    "enrolled": Field(Sort.TIME, "", "when it enrolled first"),
    "model": Field(Sort.TEXT, "model", "the version of a model that it runs"),
    "release": Field(Sort.WHOLE, "model", "the release of a model that it runs"),
    "bundle": Field(Sort.TEXT, "model", "the bundle of a model that it runs"),
    "state": Field(Sort.TEXT, "model", "how a model fares on it, such as degraded"),
}

EQUAL = ("==", "!=", "=in=", "=out=")
ORDER = ("<", "<=", ">", ">=")
OPERATORS: dict[Sort, tuple[str, ...]] = {
    Sort.TEXT: EQUAL,
    Sort.SET: EQUAL,
    Sort.FLAG: ("==", "!="),
    Sort.WHOLE: (*EQUAL, *ORDER),
    Sort.TIME: ORDER,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Pattern:
    """A text: equal to `head` where `tail` is None; else it begins with `head`, then has `middle` somewhere, then ends
    with `tail`.
    """

    head: str
    middle: str = ""
    tail: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """A time: `seconds` since 1970, or since now where it is `relative`."""

    seconds: float
    relative: bool = False

    def at_ms(self, now: float) -> int:
        """Return it in milliseconds since 1970."""
        return int((self.seconds + (now if self.relative else 0.0)) * 1000)


Value = Pattern | Moment | int | bool


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A field (and what stands behind its dot), an operator of `OPERATORS`, and one value or more."""

    field: str
    key: str
    operator: str
    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Every:
    """All of these hold."""

    parts: tuple[Node, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Some:
    """At least one of these holds."""

    parts: tuple[Node, ...]


Node = Comparison | Every | Some
