"""Layers of one form as one function: where flash is dear, what differs between them becomes arguments.

Networks repeat blocks. The functions of two equal layers differ in where their constants and tensors are and in nothing
else. Constants of one layer lie together, so most of them differ by one distance, which is one argument.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

_CONSTANT = re.compile(r"\bconstant\((\w+), (\d+)\)")
_TENSOR = re.compile(r"\bat\((\w+), (\d+)\)")


@dataclasses.dataclass(frozen=True, slots=True)
class _Layer:
    """A function's text without what may differ, and what may: places of constants and of tensors, in order."""

    form: str
    constants: tuple[int, ...]
    tensors: tuple[int, ...]


def together(functions: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return functions and calls for what may share its code.

    Args:
        functions: the text of functions without arguments, by name.

    Returns:
        the functions that are left, by name, and for each function that is not, the call that takes its place.
    """
    groups: dict[str, list[str]] = {}
    layers = {name: _layer(name, text) for name, text in functions.items()}
    for name, layer in layers.items():
        groups.setdefault(layer.form, []).append(name)
    left, calls = dict(functions), {}
    for names in groups.values():
        first = layers[names[0]]
        alike = [name for name in names if _alike(first, layers[name])]
        if len(alike) < 2:
            continue
        members = [layers[name] for name in alike]
        apart = _distances(first.constants, [each.constants for each in members])
        moved = _distances(first.tensors, [each.tensors for each in members])
        shared = f"each_{names[0]}"
        for number, name in enumerate(alike):
            words = [each[number] for each in dict.fromkeys((*apart.values(), *moved.values())) if any(each)]
            calls[name] = f"{shared}({', '.join(map(str, words))});"
            del left[name]
        left[shared] = _text(functions[names[0]], names[0], shared, apart, moved)
    return left, calls


def _layer(name: str, text: str) -> _Layer:
    constants = tuple(int(found[2]) for found in _CONSTANT.finditer(text))
    tensors = tuple(int(found[2]) for found in _TENSOR.finditer(text))
    form = _TENSOR.sub(r"at(\1, )", _CONSTANT.sub(r"constant(\1, )", text))
    return _Layer(_plain(form).replace(name, "op"), constants, tensors)


def _plain(text: str) -> str:
    """Return C without its comments, which name layers."""
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def _distances(places: Sequence[int], others: Sequence[Sequence[int]]) -> dict[int, tuple[int, ...]]:
    """Return for each place how far it is from there in each other layer."""
    return {place: tuple(each[i] - place for each in others) for i, place in enumerate(places)}


def _alike(first: _Layer, other: _Layer) -> bool:
    """Return whether every place of one layer is always the same place of the other."""
    pairs = ((first.constants, other.constants), (first.tensors, other.tensors))
    return all(len(set(zip(one, two, strict=True))) == len(set(one)) for one, two in pairs)


def _text(
    text: str, name: str, shared: str, apart: Mapping[int, tuple[int, ...]], moved: Mapping[int, tuple[int, ...]]
) -> str:
    """Return a layer's function with its distances from the first as arguments."""
    names = {each: f"d{i}" for i, each in enumerate(filter(any, dict.fromkeys((*apart.values(), *moved.values()))))}
    parameters = ", ".join(f"const int32_t {each}" for each in names.values()) or "void"
    head = f"__attribute__((noinline)) static void {shared}({parameters})"

    def added(kind: str, distances: Mapping[int, tuple[int, ...]]) -> Callable[[re.Match[str]], str]:
        def one(found: re.Match[str]) -> str:
            distance = names.get(distances[int(found[2])])
            return f"{kind}({found[1]}, {found[2]} + {distance})" if distance else found[0]

        return one

    text = text.replace(f"static void {name}(void)", head)
    return _TENSOR.sub(added("at", moved), _CONSTANT.sub(added("constant", apart), text))
