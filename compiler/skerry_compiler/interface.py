"""What a model takes and gives: input shapes from the model, options and data; outputs as ONNX Runtime really gives
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from skerry_compiler import data, graph
from skerry_compiler.engines import onnxruntime
from skerry_compiler.errors import LimitError, ModelError, UnsupportedError
from skerry_compiler.passes.open_outputs import OpenOutputs, open_outputs
from skerry_contracts.errors import ContractError
from skerry_contracts.tensor import TensorSpec

CAPACITY_ROWS = 64  # rows that are run to learn how large an open output gets

_NO_ROOM = ("Failed to allocate memory", "bad_alloc", "Integer overflow")  # in ONNX Runtime's words
_NO_ROOM_HINT = "does an operator make a tensor of absurd extents?"

Shapes = dict[str, tuple[int, ...]]


def shapes(model: ModelProto, given: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray]) -> Shapes:
    """Return whole shapes for inputs whose shape the model leaves open: from options, else from the calibration
    data's rows.

    Raises:
        ModelError: an option names no input and no output.
    """
    found = dict(given)
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise ModelError(f"no input {unknown[0]!r:.80}", hint=f"inputs: {', '.join(v.name for v in model.graph.input)}")
    for value in model.graph.input:
        array = arrays.get(value.name)
        extents = graph.shape_of(value)
        open_ = extents is None or not all(isinstance(each, int) and each > 0 for each in extents[1:])
        if value.name not in found and array is not None and open_ and array.ndim:
            found[value.name] = (1, *array.shape[1:])
    return found


def inputs(model: ModelProto) -> list[TensorSpec]:
    """Return the inputs of a model whose shapes are fixed.

    Raises:
        ModelError: an input that cannot be served.
    """
    return [_spec(value.name, value.type.tensor_type.elem_type, graph.shape_of(value)) for value in model.graph.input]


def outputs(
    model: ModelProto, specs: Sequence[TensorSpec], rows: data.Rows | None, capacities: Shapes
) -> tuple[ModelProto, list[TensorSpec]]:
    """Return the model with its open outputs at their capacity (see OpenOutputs), and its outputs as ONNX Runtime
    really gives them: shape inference knows less.

    Args:
        model: after constant folding.
        specs: its inputs.
        rows: real rows, by which open outputs are sized; None: made-up ones.
        capacities: of open outputs, where a person gave them.

    Raises:
        UnsupportedError: ONNX Runtime cannot run the model, or an output is no tensor of numbers.
        ModelError: it fails on the rows.
    """
    session = onnxruntime.open_session(model.SerializeToString())
    open_ = set(open_outputs(model))
    strange = sorted(name for name in capacities if name not in open_)
    if strange:
        raise ModelError(f"the output {strange[0]!r:.80} has a shape of its own: it takes no other")
    feeds = (rows or data.synthetic(specs, 1)).head(CAPACITY_ROWS if open_ else 1)
    shown, elements = _run(model, session, specs, feeds, made_up=rows is None)
    found: list[TensorSpec] = []
    sizes: Shapes = {}
    for value in model.graph.output:
        name, extents = value.name, shown[value.name]
        if name in open_:
            sizes[name] = capacities.get(name, extents)
            value.type.tensor_type.elem_type = elements[name]
            extents = sizes[name]
        found.append(_spec(name, elements[name], extents))
        if name in open_:
            found.append(_spec(f"{name}.shape", TensorProto.INT64, (len(extents),)))
    padding = OpenOutputs(sizes)
    problem = padding.requires(model)
    if problem:
        raise UnsupportedError(f"output {min(sizes)!r:.80} has extents that hang on values, and {problem}")
    return padding.run(model), found


def _run(
    model: ModelProto, session: object, specs: Sequence[TensorSpec], rows: data.Rows, *, made_up: bool
) -> tuple[Shapes, dict[str, int]]:
    """Return each output's largest shape over the rows, and its element type."""
    names = [value.name for value in model.graph.output]
    shown: Shapes = {}
    elements: dict[str, int] = {}
    for row in range(len(rows)):
        feeds = {spec.name: np.asarray(tensor[row]) for spec, tensor in zip(specs, rows.tensors, strict=True)}
        try:
            answers = session.run(names, feeds)  # type: ignore[attr-defined]  # onnxruntime ships no types
        except onnxruntime.failures() as error:
            words = onnxruntime.said(error)
            if any(word in words for word in _NO_ROOM):
                raise LimitError("the model asks for more memory than it may have", hint=_NO_ROOM_HINT) from error
            hint = "give --calibration: the made-up rows may be what it cannot take" if made_up else ""
            raise ModelError(f"ONNX Runtime fails on this model: {words}", hint=hint) from error
        for name, content in zip(names, answers, strict=True):
            if not isinstance(content, np.ndarray) or content.dtype.kind not in "fiub":
                raise UnsupportedError(f"output {name!r:.80} is no tensor of numbers")
            extents = tuple(int(each) for each in np.shape(content))
            before = shown.get(name, extents)
            if len(before) != len(extents):
                raise UnsupportedError(f"output {name!r:.80} has now {len(before)}, now {len(extents)} axes")
            shown[name] = tuple(max(one, two) for one, two in zip(before, extents, strict=True))
            elements[name] = onnx.helper.np_dtype_to_tensor_dtype(content.dtype)
    return shown, elements


def _spec(name: str, element: int, shape: Sequence[int | str] | None) -> TensorSpec:
    if element not in graph.DTYPES:
        raise UnsupportedError(f"{name!r:.80} is of the type {_type_name(element)}, which no engine here serves")
    if shape is None or not all(isinstance(each, int) and each >= 0 for each in shape):
        raise ModelError(f"{name!r:.80} is of a shape that cannot be served")
    try:
        return TensorSpec(name, graph.DTYPES[element], tuple(int(each) for each in shape))
    except ContractError as error:
        raise ModelError(f"{name!r:.80}: {error}") from error


def _type_name(element: int) -> str:
    return str(TensorProto.DataType.Name(element)) if element in TensorProto.DataType.values() else str(element)
