"""The sandboxed half of a compile: read the model, run the passes, draft every candidate. Run as `python -m
skerry_compiler.prepare JOB`.

It answers with the signature and the drafts, whose contents it leaves as files beside the job; only files and plain
JSON come back.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from skerry_compiler import data, graph, roles, sandbox
from skerry_compiler.engines import catalogue as engines
from skerry_compiler.engines import onnxruntime
from skerry_compiler.engines.candidate import Draft, Failure
from skerry_compiler.errors import ModelError
from skerry_compiler.frontends import catalogue as front_ends
from skerry_compiler.frontends.opening import Opening
from skerry_compiler.passes import base
from skerry_compiler.passes.constant_fold import ConstantFold
from skerry_compiler.passes.dead_code import DeadCode
from skerry_compiler.passes.fixed_shapes import FixedShapes
from skerry_compiler.passes.opset_cap import OpsetCap
from skerry_compiler.passes.plain_form import PlainForm
from skerry_compiler.passes.tensor_outputs import TensorOutputs
from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_contracts.tensor import TensorSpec
from skerry_targets import profile as profiles

CALIBRATION_ROWS = 200


def work(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Do the job; see `skerry_compiler.compiling.prepare` for its fields.

    Raises:
        CompileError: anything that is wrong with the model or the data.
    """
    profile = profiles.from_plain(job["profile"], "the target")
    arrays = data.read_npz(Path(job["calibration"])) if job["calibration"] else {}
    source, shapes = Path(job["source"]), {name: tuple(extents) for name, extents in job["shapes"].items()}
    opening = Opening(source, profile, arrays, shapes, job["trust_pickle"], job["input_name"])
    model, form = front_ends.read(opening)
    original = folder / "original.onnx"
    original.write_bytes(model.SerializeToString(deterministic=True))
    outputs = TensorOutputs()
    caps = profile.engines["onnxruntime"]
    model = base.run_all(
        model,
        [
            PlainForm(),
            outputs,
            FixedShapes(_shapes(model, shapes, arrays)),
            OpsetCap(caps.opset_max, caps.ir_max),
            ConstantFold(),
            DeadCode(),
        ],
    )
    inputs = _inputs(model)
    signature = roles.signature(model, inputs, _outputs(model, inputs), outputs.labels)
    rows = data.inputs_of(arrays, inputs, "the calibration data").head(CALIBRATION_ROWS) if arrays else None
    operators = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    answer = {"signature": codec.to_plain(signature), "format": form, "original": str(original), "operators": operators}
    if job["drafts"]:
        wanted = None if job["wanted"] is None else frozenset(job["wanted"])
        material = engines.Material(model, profile, _feeds(inputs, rows), source, form, wanted, job["time_s"])
        made = engines.drafts(material, lambda words: _note(folder, words))
        answer["candidates"] = [_left(each, folder) for each in made]
    return answer


def _note(folder: Path, words: str) -> None:
    """Leave in words what is being done, for the error if it never ends."""
    (folder / sandbox.STEP).write_text(words)


def _feeds(inputs: list[TensorSpec], rows: data.Rows | None) -> dict[str, np.ndarray]:
    """Return calibration rows by input name; none where an input has no batch axis to stack them on."""
    if rows is None or not _batches(inputs):
        return {}
    return {
        spec.name: each.reshape(len(each), *spec.shape[1:]) for spec, each in zip(inputs, rows.tensors, strict=True)
    }


def _batches(inputs: list[TensorSpec]) -> bool:
    return all(spec.shape[:1] == (1,) for spec in inputs)


def _shapes(
    model: ModelProto, given: dict[str, tuple[int, ...]], arrays: dict[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
    """Return whole shapes for inputs whose shape the model leaves open: from options, else from the calibration
    data's rows.
    """
    shapes = dict(given)
    unknown = sorted(set(shapes) - {value.name for value in model.graph.input})
    if unknown:
        raise ModelError(f"no input {unknown[0]!r:.80}", hint=f"inputs: {', '.join(v.name for v in model.graph.input)}")
    for value in model.graph.input:
        array = arrays.get(value.name)
        found = graph.shape_of(value)
        open_ = found is None or not all(isinstance(each, int) and each > 0 for each in found[1:])
        if value.name not in shapes and array is not None and open_ and array.ndim:
            shapes[value.name] = (1, *array.shape[1:])
    return shapes


def _inputs(model: ModelProto) -> list[TensorSpec]:
    return [
        _spec(value.name, value.type.tensor_type.elem_type, graph.static_shape(value)) for value in model.graph.input
    ]


def _spec(name: str, element: int, shape: tuple[int, ...] | None) -> TensorSpec:
    if element not in graph.DTYPES or shape is None:
        raise ModelError(f"{name!r:.80} is of a type or shape that cannot be served")
    try:
        return TensorSpec(name, graph.DTYPES[element], shape)
    except ContractError as error:
        raise ModelError(f"{name!r:.80}: {error}") from error


def _outputs(model: ModelProto, inputs: list[TensorSpec]) -> list[TensorSpec]:
    """Return the outputs as ONNX Runtime really gives them: shape inference knows less.

    Raises:
        UnsupportedError: ONNX Runtime cannot run the model.
        ModelError: an output is no tensor of numbers.
    """
    session = onnxruntime.open_session(model.SerializeToString())
    row = data.synthetic(inputs, 1)
    feeds = {spec.name: array[0] for spec, array in zip(inputs, row.tensors, strict=True)}
    names = [value.name for value in model.graph.output]
    try:
        answers = session.run(names, feeds)
    except RuntimeError as error:
        raise ModelError(f"ONNX Runtime fails on this model: {' '.join(str(error).split())[:300]}") from error
    specs = []
    for name, content in zip(names, answers, strict=True):
        if not isinstance(content, np.ndarray) or content.dtype.kind not in "fiub":
            raise ModelError(f"output {name!r:.80} is no tensor of numbers")
        specs.append(_spec(name, onnx.helper.np_dtype_to_tensor_dtype(content.dtype), content.shape))
    return specs


def _left(each: Draft | Failure, folder: Path) -> dict[str, Any]:
    """Leave a draft's contents as files and return the rest as plain data."""
    if isinstance(each, Failure):
        return {"failure": dataclasses.asdict(each)}
    files = {}
    for role, content in each.files.items():
        files[role] = str(folder / f"{each.id}.{role}")
        Path(files[role]).write_bytes(content)
    plain = {field.name: getattr(each, field.name) for field in dataclasses.fields(each)}
    return {"draft": {**plain, "files": files, "requires": codec.to_plain(each.requires)}}


if __name__ == "__main__":
    sys.exit(sandbox.answer(sys.argv, work))
