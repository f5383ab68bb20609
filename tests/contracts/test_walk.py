"""Every record of the package, found by walking it: round trip, unknown field, wrong type, missing field, golden
bytes.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.examples import EXAMPLES, LATER, LATEST

import skerry_contracts
from skerry_contracts import codec
from skerry_contracts.errors import MismatchError

GOLDEN = Path(__file__).parents[1] / "golden"
# Records that are values of a table or helpers, and never cross a wire themselves.
NEVER_SENT = {"Channel", "Topic", "Container"}


def modules() -> list[Any]:
    return [
        importlib.import_module(f"skerry_contracts.{each.name}")
        for each in pkgutil.iter_modules(skerry_contracts.__path__)
    ]


def records() -> set[type]:
    found = set()
    for module in modules():
        for each in vars(module).values():
            if isinstance(each, type) and dataclasses.is_dataclass(each) and each.__module__ == module.__name__:
                found.add(each)
    return {each for each in found if each.__name__ not in NEVER_SENT and not each.__name__.startswith("_")}


def test_every_record_has_an_example() -> None:
    assert {each.__name__ for each in records()} == {type(each).__name__ for each in EXAMPLES}


@pytest.mark.parametrize("kind", sorted(records(), key=str), ids=str)
def test_records_are_frozen_and_slotted(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # set by dataclasses, not in typeshed
    assert "__slots__" in vars(kind)


@pytest.mark.parametrize("example", EXAMPLES + LATER + LATEST, ids=lambda each: type(each).__name__)
class TestRecord:
    def test_round_trip(self, example: Any) -> None:
        data = codec.encode(example)
        assert codec.decode(type(example), data) == example
        assert codec.encode(codec.decode(type(example), data)) == data

    def test_unknown_fields_are_ignored(self, example: Any) -> None:
        plain = {**codec.to_plain(example), "from_the_future": {"x": [1]}}
        assert codec.from_plain(type(example), plain) == example

    def test_a_wrong_type_is_refused_with_its_path(self, example: Any) -> None:
        plain = codec.to_plain(example)
        for name, value in plain.items():
            wrong: Any = {"no": "list"} if isinstance(value, list) else [1]
            with pytest.raises(MismatchError) as caught:
                codec.from_plain(type(example), {**plain, name: wrong})
            assert caught.value.path.startswith(name)

    def test_a_missing_field_is_named(self, example: Any) -> None:
        plain = codec.to_plain(example)
        for field in dataclasses.fields(example):
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                with pytest.raises(MismatchError, match=f"{field.name}: is missing"):
                    codec.from_plain(type(example), {key: value for key, value in plain.items() if key != field.name})

    def test_todays_bytes_are_the_golden_bytes(self, example: Any) -> None:
        """Bytes once released are read for ever: a new field needs a default, or a new golden folder."""
        folder = {**{id(each): "v2" for each in LATER}, **{id(each): "v3" for each in LATEST}}.get(id(example), "v1")
        assert (GOLDEN / folder / f"{type(example).__name__}.json").read_bytes() == codec.encode(example)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("v*/*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_release_is_still_read(path: Path) -> None:
    kind = {each.__name__: each for each in records()}[path.stem]
    codec.decode(kind, path.read_bytes())
    json.loads(path.read_text())


def test_the_ground_floor_is_the_standard_library() -> None:
    for source in sorted(Path(skerry_contracts.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names or top == "skerry_contracts", f"{source.name} imports {name}"
