"""Every value gets a fixed shape: symbolic first extents become a batch of 1, others come from options or calibration
data.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import ModelProto

from skerry_compiler import graph as graphs
from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_contracts.errors import MismatchError
from skerry_contracts.tensor import TensorSpec

# What tools write where they know no name.
_MEANINGLESS = frozenset(["", "?", "-1", "none", "unk", "unknown", "dyn", "dynamic"])


class FixedShapes:
    """`shapes` gives whole input shapes by name, where the model leaves more open than the batch."""

    name = "fixed-shapes"

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes

    def requires(self, model: ModelProto) -> str | None:
        """Any model will do."""
        return None

    def run(self, model: ModelProto) -> ModelProto:
        """See the class.

        Raises:
            ModelError: an extent stays open, or a given shape contradicts the model.
        """
        known = self._named(model)
        for value in model.graph.input:
            kind = value.type.tensor_type
            if kind.elem_type not in graphs.DTYPES:
                raise UnsupportedError(
                    f"input {value.name!r:.80} is {_kind(value)}, which no engine takes here", hint=_instead(value)
                )
            shape = self._shape(value, known)
            del kind.shape.dim[:]
            for extent in shape:
                kind.shape.dim.add().dim_value = extent
            try:
                TensorSpec(value.name, graphs.DTYPES[kind.elem_type], shape)
            except MismatchError as error:
                raise ModelError(f"input {value.name!r:.80}: {error}") from error
        for value in model.graph.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        del model.graph.value_info[:]
        return inferred(model)

    def ensures(self, model: ModelProto) -> str | None:
        """Every input has numbers for extents."""
        open_ = [value.name for value in model.graph.input if not _all_known(graphs.shape_of(value))]
        return f"input {open_[0]} is not fixed" if open_ else None

    def _named(self, model: ModelProto) -> dict[str, int]:
        """Return what extents with a name are: as the given shapes say wherever the name stands, 1 where it is a first
        extent. So one `--shape` is enough for inputs of one length, and a batch may be another axis. Names that stand
        for several extents say nothing.
        """
        told: dict[str, set[int]] = {}
        shapes = {value.name: graphs.shape_of(value) or () for value in model.graph.input}
        for value, found in shapes.items():
            for name, extent in zip(found, self.shapes.get(value, ()), strict=False):
                if isinstance(name, str):
                    told.setdefault(name, set()).add(extent)
        for value, found in shapes.items():
            if value not in self.shapes and found and isinstance(found[0], str):
                told.setdefault(found[0], {1})
        twice = {name for found in shapes.values() for name in found if found.count(name) > 1}
        return {
            name: extents.pop()
            for name, extents in told.items()
            if len(extents) == 1 and name not in twice and name.lower() not in _MEANINGLESS
        }

    def _shape(self, value: onnx.ValueInfoProto, known: Mapping[str, int]) -> tuple[int, ...]:
        found = graphs.shape_of(value)
        given = self.shapes.get(value.name)
        if found is None:
            if given is None:
                raise ModelError(f"input {value.name!r:.80} has no shape", hint=f"pass --shape {value.name}=1,...")
            return given
        if given is not None:
            if len(given) != len(found) or any(
                isinstance(extent, int) and 0 < extent != wanted for extent, wanted in zip(found, given, strict=True)
            ):
                raise ModelError(f"input {value.name!r:.80} is {list(found)}, which {list(given)} does not fit")
            return given
        named = [known.get(extent, extent) if isinstance(extent, str) else extent for extent in found]
        fixed = [1 if place == 0 and not _known(extent) else extent for place, extent in enumerate(named)]
        if not all(_known(extent) for extent in fixed):
            raise ModelError(
                f"input {value.name!r:.80} is {list(found)}: more than the batch is open ({_open(fixed)})",
                hint=f"pass --shape {value.name}={_asked(fixed)} with numbers in place of ?, or calibration data",
            )
        return tuple(int(extent) for extent in fixed)


def _known(extent: int | str) -> bool:
    return isinstance(extent, int) and extent > 0


def _open(shape: list[int | str]) -> str:
    """Return in words which extents are open."""
    return ", ".join(repr(each) if each else f"axis {place}" for place, each in enumerate(shape) if not _known(each))


def _asked(shape: list[int | str]) -> str:
    return ",".join(str(each) if _known(each) else "?" for each in shape)


def _instead(value: onnx.ValueInfoProto) -> str:
    """Return what to do about an input that no engine takes."""
    element = value.type.tensor_type.elem_type
    if element == onnx.TensorProto.STRING:
        return "models take numbers: turn text into token ids or categories into codes ahead of the model"
    if element == onnx.TensorProto.BFLOAT16:
        return "export it with float32 or float16 inputs"
    return "" if value.type.HasField("tensor_type") else "give every element of it as a tensor of its own"


def _all_known(shape: tuple[int | str, ...] | None) -> bool:
    return shape is not None and all(isinstance(extent, int) and extent >= 0 for extent in shape)


def _kind(value: onnx.ValueInfoProto) -> str:
    """Return the type of an input in words."""
    if not value.type.HasField("tensor_type"):
        return f"no tensor but of kind {str(value.type.WhichOneof('value')).removesuffix('_type')}"
    element = value.type.tensor_type.elem_type
    known = element in onnx.TensorProto.DataType.values()
    return f"of type {onnx.TensorProto.DataType.Name(element) if known else element}"


def inferred(model: ModelProto) -> ModelProto:
    """Return the model with the shapes that can be inferred.

    Raises:
        ModelError: shapes contradict each other.
    """
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ModelError(f"the shapes contradict each other: {' '.join(str(error).split())[:200]}") from error
