"""What of an input never leaves the device: rules of its own configuration, applied before anything is kept.

    [[redact]]
    model = "doors"          # or "*"
    input = "image"          # left out: every input
    action = "mask"          # drop (the input), mask, blur, outputs-only
    region = [0, 0, 40, 64]  # rows and columns: top, left, bottom, right; left out: the whole image
    block = 16               # blur: pixels that become their mean
    layout = "hwc"           # or "chw"; left out: 1, 3 or 4 channels last, else rows and columns last

What a rule cannot be applied to is dropped, never passed on. Statistics obey, too: whatever a rule touches is in no
histogram, moment or quantile (of an image that is masked in part, elements outside of the region stay).
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from skerry_agent.errors import ConfigError
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import ITEM_BYTES, STRUCT_CODE, DType, Tensor, TensorSpec

CHANNELS = (1, 3, 4)
HINT = 'such as {model = "doors", input = "image", action = "mask", region = [0, 0, 40, 64]}; see docs/agent.md'


class Action(StrEnum):
    """What a rule does to an input."""

    DROP = "drop"
    MASK = "mask"
    BLUR = "blur"
    OUTPUTS_ONLY = "outputs-only"


@dataclasses.dataclass(frozen=True, slots=True)
class RedactRule:
    """One rule; see the module."""

    model: str
    action: Action
    input: str = ""
    region: tuple[int, int, int, int] | None = None
    block: int = 16
    layout: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Image:
    """A tensor as `outer` images of `rows` × `columns` pixels with `inner` values each."""

    outer: int
    rows: int
    columns: int
    inner: int
    top: int
    left: int
    bottom: int
    right: int

    def holds(self, element: int) -> bool:
        """Return whether an element lies within the region."""
        pixel = element // self.inner
        row, column = pixel // self.columns % self.rows, pixel % self.columns
        return self.top <= row < self.bottom and self.left <= column < self.right

    def start(self, image: int, row: int, column: int) -> int:
        """Return the place of a pixel's first value."""
        return ((image * self.rows + row) * self.columns + column) * self.inner


def read_rules(tables: Any) -> tuple[RedactRule, ...]:
    """Return the rules that `[[redact]]` tables describe.

    Raises:
        ConfigError: not tables, an unknown word, or a value of the wrong type or range.
    """
    if not isinstance(tables, list):
        raise ConfigError("redact must be a list of tables", hint=HINT)
    return tuple(_rule(table) for table in tables)


class Redactor:
    """The rules for one bundle's inputs. `trouble` says what of them fits nothing here."""

    def __init__(self, rules: Iterable[RedactRule], model: str, signature: Signature) -> None:
        self._rules = [rule for rule in rules if rule.model in (model, "*")]
        self._specs = {spec.name: spec for spec in signature.inputs}
        lost = [rule.input for rule in self._rules if rule.model == model and rule.input not in ("", *self._specs)]
        self._nothing = bool(lost)  # a name mistyped must not let pass what it was to hide
        self.trouble = f"no input is called {lost[0]!r:.60}: no input of it is kept" if lost else ""

    def clean(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the inputs as they may be kept."""
        if not self._rules:
            return tuple(inputs)
        found = [self._clean(tensor) for tensor in inputs]
        return tuple(tensor for tensor in found if tensor is not None)

    def allows(self, source: str) -> bool:
        """Return whether a source of statistics (`input:NAME:PART`, and others) may be counted."""
        kind, _, rest = source.partition(":")
        name, _, part = rest.rpartition(":")
        rules = self._of(name) if kind == "input" else []
        if kind != "input" or not self._rules:
            return True
        return not self._nothing and all(self._spares(rule, name, part) for rule in rules)

    def _of(self, name: str) -> list[RedactRule]:
        return [rule for rule in self._rules if rule.input in ("", name) or rule.action == Action.OUTPUTS_ONLY]

    def _spares(self, rule: RedactRule, name: str, part: str) -> bool:
        if rule.action not in (Action.MASK, Action.BLUR) or not part.isdigit() or name not in self._specs:
            return False
        image = _image(self._specs[name], rule)
        return image is not None and not image.holds(int(part))

    def _clean(self, tensor: Tensor) -> Tensor | None:
        if self._nothing:
            return None
        for rule in self._of(tensor.name):
            image = _image(TensorSpec(tensor.name, tensor.dtype, tensor.shape), rule)
            if rule.action not in (Action.MASK, Action.BLUR) or image is None or tensor.data is None:
                return None
            change = _mask if rule.action == Action.MASK else _blur
            data = change(tensor.data, tensor.dtype, image, rule.block)
            tensor = dataclasses.replace(tensor, data=data)
        return tensor


def _image(spec: TensorSpec, rule: RedactRule) -> _Image | None:
    """Return a tensor as images, with the rule's region; None where it is none, or the region is not within."""
    shape = spec.shape
    last = rule.layout == "hwc" or (not rule.layout and len(shape) > 2 and shape[-1] in CHANNELS)
    if not rule.layout and len(shape) > 3 and shape[-3] in CHANNELS:
        last = False
    if len(shape) < (3 if last else 2):
        return None
    inner = shape[-1] if last else 1
    rows, columns = shape[-3:-1] if last else shape[-2:]
    top, left, bottom, right = rule.region or (0, 0, rows, columns)
    if not (top < bottom <= rows and left < right <= columns):
        return None
    return _Image(math.prod(shape[: -3 if last else -2]), rows, columns, inner, top, left, bottom, right)


def _mask(data: bytes, dtype: DType, image: _Image, _block: int) -> bytes:
    found = bytearray(data)
    size = ITEM_BYTES[dtype]
    width = (image.right - image.left) * image.inner * size
    for each in range(image.outer):
        for row in range(image.top, image.bottom):
            at = image.start(each, row, image.left) * size
            found[at : at + width] = bytes(width)
    return bytes(found)


def _blur(data: bytes, dtype: DType, image: _Image, block: int) -> bytes:
    code = f"<{len(data) // ITEM_BYTES[dtype]}{STRUCT_CODE[dtype]}"
    values: list[Any] = list(struct.unpack(code, data))
    whole = dtype not in (DType.FP16, DType.FP32, DType.FP64)
    for each in range(image.outer):
        for top in range(image.top, image.bottom, block):
            for left in range(image.left, image.right, block):
                rows = range(top, min(top + block, image.bottom))
                width = min(left + block, image.right) - left
                for channel in range(image.inner):
                    starts = [image.start(each, row, left) + channel for row in rows]
                    steps = [slice(at, at + width * image.inner - channel, image.inner) for at in starts]
                    mean = sum([sum(values[step]) for step in steps]) / (width * len(rows))
                    for step in steps:
                        values[step] = [round(mean) if whole else mean] * width
    return struct.pack(code, *values)


def _rule(table: Any) -> RedactRule:
    if not isinstance(table, dict):
        raise ConfigError("redact must be a list of tables", hint=HINT)
    unknown = sorted(set(table) - {field.name for field in dataclasses.fields(RedactRule)})
    if unknown:
        raise ConfigError(f"redact: no word is called {unknown[0]!r:.60}", hint=HINT)
    model, action, name = table.get("model"), table.get("action"), table.get("input", "")
    block, layout, region = table.get("block", 16), table.get("layout", ""), table.get("region")
    if not (isinstance(model, str) and model and isinstance(name, str)):
        raise ConfigError("redact: model and input are names", hint=HINT)
    if action not in list(Action) or layout not in ("", "hwc", "chw"):
        raise ConfigError(f"redact: action is one of {', '.join(Action)}, and layout hwc or chw", hint=HINT)
    if isinstance(block, bool) or not isinstance(block, int) or block < 2:
        raise ConfigError("redact: block is a number of pixels from 2", hint=HINT)
    if region is None:
        return RedactRule(model, Action(action), name, None, block, layout)
    whole = isinstance(region, list) and len(region) == 4 and all(type(each) is int and each >= 0 for each in region)
    if not whole or not (region[0] < region[2] and region[1] < region[3]):
        raise ConfigError("redact: region is [top, left, bottom, right], whole numbers that rise", hint=HINT)
    top, left, bottom, right = region
    return RedactRule(model, Action(action), name, (top, left, bottom, right), block, layout)
