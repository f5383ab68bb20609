"""The sandboxed half of a compile: read the model, run the passes, draft every candidate. Run as `python -m
skerry_compiler.prepare JOB`.

It answers with the signature and the drafts, whose contents it leaves as files beside the job; only files and plain
JSON come back.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from skerry_compiler import data, interface, roles, sandbox
from skerry_compiler.engines import catalogue as engines
from skerry_compiler.engines import threads
from skerry_compiler.engines.candidate import Draft, Failure
from skerry_compiler.frontends import catalogue as front_ends
from skerry_compiler.frontends.opening import Opening
from skerry_compiler.passes import base
from skerry_compiler.passes.bounded_size import BoundedSize
from skerry_compiler.passes.constant_fold import ConstantFold
from skerry_compiler.passes.dead_code import DeadCode
from skerry_compiler.passes.dense_constants import DenseConstants
from skerry_compiler.passes.fixed_shapes import FixedShapes
from skerry_compiler.passes.opset_cap import OpsetCap
from skerry_compiler.passes.opset_lift import OpsetLift
from skerry_compiler.passes.pattern import opset
from skerry_compiler.passes.plain_form import PlainForm
from skerry_compiler.passes.tensor_outputs import TensorOutputs
from skerry_compiler.repair import offers as repair
from skerry_contracts import codec
from skerry_contracts.tensor import TensorSpec
from skerry_targets import profile as profiles

CALIBRATION_ROWS = 200
OLDEST_RUN = 7  # opsets below have operators that ONNX Runtime no longer runs
SCALES_A_CHANNEL = 13  # the opset that brought them


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
    model = _brought_up(model, shapes, arrays)
    original = folder / "original.onnx"
    original.write_bytes(model.SerializeToString(deterministic=True))
    outputs = TensorOutputs()
    caps = profile.engines.get("onnxruntime")  # a microcontroller has none, and so no newest opset
    model = base.run_all(
        model,
        [
            PlainForm(),
            DenseConstants(),
            outputs,
            FixedShapes(interface.shapes(model, shapes, arrays)),
            BoundedSize(),
            OpsetCap(caps.opset_max if caps else None, caps.ir_max if caps else None),
            ConstantFold(),
            DeadCode(),
            BoundedSize(),
        ],
    )
    inputs = interface.inputs(model)
    rows = data.inputs_of(arrays, inputs, "the calibration data").head(CALIBRATION_ROWS) if arrays else None
    taken = {spec.name for spec in inputs}
    capacities = {name: shape for name, shape in shapes.items() if name not in taken}
    model, given = interface.outputs(model, inputs, rows, capacities)
    signature = roles.signature(model, inputs, given, outputs.labels)
    operators = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    answer = {"signature": codec.to_plain(signature), "format": form, "original": str(original), "operators": operators}
    if job["drafts"]:
        wanted = None if job["wanted"] is None else frozenset(job["wanted"])
        feeds, chosen = _feeds(inputs, rows), tuple(job["engines"])
        scales = None if job["scales"] is None else Path(job["scales"])
        material = engines.Material(
            model, profile, feeds, source, form, chosen, wanted, job["time_s"], job["threads"], scales
        )
        made = engines.drafts(material, lambda words: _note(folder, words))
        repaired = repair.offers(material, signature, lambda words: _note(folder, words), retrain=job["retrain"])
        answer["candidates"] = [
            _left(threads.asked(each, job["threads"]), folder) for each in (*made, *repaired.drafts)
        ]
        answer["notes"] = [*(front_ends.NOTES[each] for each in (form,) if each in front_ends.NOTES), *repaired.notes]
        if repaired.handover is not None:
            answer["handover"] = repaired.handover.plain
            (folder / sandbox.HANDOVER).write_bytes(repaired.handover.onnx)
    return answer


def _brought_up(model: ModelProto, shapes: interface.Shapes, arrays: Mapping[str, np.ndarray]) -> ModelProto:
    """Return a model in words that ONNX Runtime runs, so that there is an original to compare with."""
    if opset(model) >= OLDEST_RUN:
        return model
    fixed = FixedShapes(interface.shapes(model, shapes, arrays))
    return base.run_all(model, [PlainForm(), DenseConstants(), fixed, BoundedSize(), OpsetLift(SCALES_A_CHANNEL)])


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
