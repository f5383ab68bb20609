"""A device query's text, read to a tree.

The language is RSQL (github.com/jirutka/rsql-parser, a superset of FIQL, draft-nottingham-atompub-fiql-00), which users
of hawkBit write for the same purpose: `profile==raspberry-pi-*;tag.site=in=(lab,hall);last_seen<now-2h`. `;` or `and`
binds stronger than `,` or `or`. Sizes and depth are bounded, and every refusal names the column.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime

from skerry_fleet.errors import InputError
from skerry_fleet.query.words import (
    FIELDS,
    OPERATORS,
    Comparison,
    Every,
    Field,
    Moment,
    Node,
    Pattern,
    Some,
    Sort,
    Value,
)

MAX_TEXT = 2000
MAX_DEPTH = 16
MAX_COMPARISONS = 64
MAX_VALUES = 200
MAX_WHOLE = 2**63 - 1
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_SELECTOR = re.compile(r"[^\"'();,=<>!~\s]+")
_OPERATOR = re.compile(r"==|!=|<=|>=|<|>|=[a-z]+=")
_SPELT = {"=lt=": "<", "=le=": "<=", "=gt=": ">", "=ge=": ">=", "=eq=": "==", "=ne=": "!="}
_AND, _OR = re.compile(r"\s*;\s*|\s+and\s+"), re.compile(r"\s*,\s*|\s+or\s+")
_RELATIVE = re.compile(r"now(?:-([0-9]{1,9})([smhdw]))?")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
HINT = "such as profile==raspberry-pi-*;tag.site=in=(lab,hall);last_seen<now-2h (docs/devices.md)"


def read(text: str) -> Node:
    """Return the tree of a query.

    Raises:
        InputError: it is none, with the column where that is seen.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"query: {len(text)} characters, at most {MAX_TEXT}", hint="put devices into a group instead")
    if not text.strip():
        raise InputError("query: it is empty", hint=HINT)
    bad = next((at for at, letter in enumerate(text) if not letter.isprintable()), None)
    if bad is not None:
        raise _error(bad, "a character that cannot be printed")
    reader = _Reader(text)
    node = reader.either(0)
    reader.blanks()
    if reader.at < len(text):
        raise _error(reader.at, f"{text[reader.at]!r} is not expected here", "join comparisons with ; or ,")
    return node


class _Reader:
    """Walks over the text; `at` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.comparisons = 0
        self.values = 0

    def blanks(self) -> None:
        """Walk over blanks."""
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def either(self, depth: int) -> Node:
        """Read what `,` joins."""
        parts = [self._both(depth)]
        while self._take(_OR):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _both(self, depth: int) -> Node:
        parts = [self._one(depth)]
        while self._take(_AND):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _one(self, depth: int) -> Node:
        self.blanks()
        if not self._letter("("):
            return self._comparison()
        if depth >= MAX_DEPTH:
            raise _error(self.at - 1, f"parentheses deeper than {MAX_DEPTH}")
        node = self.either(depth + 1)
        self.blanks()
        if not self._letter(")"):
            raise _error(self.at, "a ) is missing")
        return node

    def _comparison(self) -> Comparison:
        start = self.at
        self.comparisons += 1
        if self.comparisons > MAX_COMPARISONS:
            raise _error(start, f"more than {MAX_COMPARISONS} comparisons", "make groups of parts of it")
        found = _SELECTOR.match(self.text, self.at)
        if found is None:
            raise _error(start, "a field's name is missing", HINT)
        self.at = found.end()
        field, key = _field(found.group(), start)
        operator = self._operator(FIELDS[field])
        values = self._values(FIELDS[field], operator)
        return Comparison(field, key, operator, values)

    def _operator(self, field: Field) -> str:
        self.blanks()
        found, at = _OPERATOR.match(self.text, self.at), self.at
        allowed = OPERATORS[field.sort]
        if found is None:
            raise _error(at, "an operator is missing", f"one of {' '.join(allowed)}")
        self.at = found.end()
        operator = _SPELT.get(found.group(), found.group())
        if operator not in allowed:
            raise _error(at, f"{found.group()} does not go with a {field.sort}", f"use one of {' '.join(allowed)}")
        return operator

    def _values(self, field: Field, operator: str) -> tuple[Value, ...]:
        self.blanks()
        many = operator in ("=in=", "=out=")
        if not many:
            return (self._value(field),)
        if not self._letter("("):
            raise _error(self.at, f"{operator} takes values in parentheses", f"such as {operator}(one,two)")
        values = [self._value(field)]
        self.blanks()
        while self._letter(","):
            values.append(self._value(field))
            self.blanks()
        if not self._letter(")"):
            raise _error(self.at, "a ) is missing")
        return tuple(values)

    def _value(self, field: Field) -> Value:
        self.blanks()
        start = self.at
        self.values += 1
        if self.values > MAX_VALUES:
            raise _error(start, f"more than {MAX_VALUES} values", "make groups of parts of it")
        if start < len(self.text) and self.text[start] in "\"'":
            text = self._quoted()
        else:
            found = _SELECTOR.match(self.text, start)
            if found is None:
                raise _error(start, "a value is missing", "put values with blanks or signs in quotes")
            text, self.at = found.group(), found.end()
        return _convert(field.sort, text, start)

    def _quoted(self) -> str:
        start, quote, text = self.at, self.text[self.at], list[str]()
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != quote:
            if self.text[self.at] == "\\":
                self.at += 1
            text += self.text[self.at : self.at + 1]
            self.at += 1
        if self.at >= len(self.text):
            raise _error(start, "the quote is not closed")
        self.at += 1
        return "".join(text)

    def _take(self, joint: re.Pattern[str]) -> bool:
        found = joint.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found is not None

    def _letter(self, letter: str) -> bool:
        there = self.text[self.at : self.at + 1] == letter
        self.at += there
        return there


def _field(selector: str, at: int) -> tuple[str, str]:
    name, dot, key = selector.partition(".")
    field = FIELDS.get(name)
    if field is None:
        near = difflib.get_close_matches(name[:40], FIELDS, 1)
        said = f"{name!r:.40} is no field" + (f"; is {near[0]} meant?" if near else "")
        raise _error(at, said, f"fields: {', '.join(FIELDS)}")
    if not field.key and dot:
        raise _error(at + len(name), f"nothing can stand behind {name}")
    if field.key and not KEY.fullmatch(key):
        raise _error(at, f"{name} needs the name of a {field.key} behind a dot", f"such as {name}.example==1")
    return name, key


def _convert(sort: Sort, text: str, at: int) -> Value:
    if sort is Sort.FLAG:
        if text not in ("true", "false"):
            raise _error(at, f"{text!r:.40} is neither true nor false")
        return text == "true"
    if sort is Sort.WHOLE:
        if not re.fullmatch("-?[0-9]{1,19}", text) or abs(int(text)) > MAX_WHOLE:
            raise _error(at, f"{text!r:.40} is no whole number")
        return int(text)
    if sort is Sort.TIME:
        return _moment(text, at)
    return _pattern(text, at)


def _moment(text: str, at: int) -> Moment:
    found = _RELATIVE.fullmatch(text)
    if found is not None:
        number, unit = found.groups()
        return Moment(-float(number) * _UNIT_S[unit] if number else 0.0, relative=True)
    try:
        moment = datetime.fromisoformat(text)
        return Moment((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        hint = "such as 2026-11-26, 2026-11-26T08:30:00Z, now-90m or now-7d"
        raise _error(at, f"{text!r:.40} is no time", hint) from error


def _pattern(text: str, at: int) -> Pattern:
    head, *rest = text.split("*")
    if not rest:
        return Pattern(head)
    if len(rest) == 1:
        return Pattern(head, "", rest[0])
    if len(rest) == 2 and not head and not rest[1]:
        return Pattern("", rest[0], "")
    raise _error(at, "a * in more places than one", "write begin*, *end, begin*end or *middle*")


def _error(at: int, said: str, hint: str = "") -> InputError:
    return InputError(f"query, column {at + 1}: {said}", hint=hint)
