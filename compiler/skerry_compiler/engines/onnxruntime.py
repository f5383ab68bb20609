"""ONNX Runtime's candidates: the model as it is, with its graph rewritten and optimised ahead, and lean in memory; in
8 bits see onnxruntime_bytes.py.

Ahead-of-time optimisation stops at EXTENDED: what lies beyond is laid out for one processor (com.microsoft.nchwc) and
fails on others.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from skerry_compiler.engines.candidate import MISTAKES, Draft, Failure, megabytes
from skerry_compiler.errors import CompileError, UnsupportedError
from skerry_compiler.passes import pipelines
from skerry_contracts.bundle import Predicates
from skerry_targets.profile import Profile

ENGINE = "onnxruntime"
PLAIN = "ort-plain"
RUNTIME_BYTES = 32 << 20  # measured: a C-interface process against one that runs generated code
_NOISE = (
    re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "),
    re.compile(r"Non-zero status code returned while running (?=\w+ node)"),
    # file and line, the function with its template arguments, then the message
    re.compile(r"/onnxruntime_src/\S+:\d+ [^()]*\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])? "),
)


def candidates(model: ModelProto, profile: Profile) -> list[Draft | Failure]:
    """Return the candidates on ONNX Runtime; the plain one, which runs everything, is always among them.

    Args:
        model: fixed shapes.
        profile: the target.
    """
    plain = model.SerializeToString(deterministic=True)
    made: list[Draft | Failure] = [draft(PLAIN, plain, model, profile, 12)]
    try:
        optimised = rewritten(model)
        made.append(draft("ort", optimised, model, profile, 10))
        made.append(draft("ort-lean", optimised, model, profile, 11, {"prepack": "0"}))
    except CompileError as error:
        made.append(Failure("ort", ENGINE, "fp32", str(error)))
    return made


def rewritten(model: ModelProto, *, everything: bool = False) -> bytes:
    """Return the model after our passes and ONNX Runtime's own; after its own alone where it does not take ours.

    Raises:
        UnsupportedError: see `optimise`.
    """
    try:
        ours = pipelines.rewritten(model, pipelines.onnxruntime()).SerializeToString(deterministic=True)
        return optimise(ours, everything=everything)
    except (CompileError, *MISTAKES):  # a pass that has not thought of some model costs a gain, not the engine
        return optimise(model.SerializeToString(deterministic=True), everything=everything)


def optimise(content: bytes, *, everything: bool = False) -> bytes:
    """Return the model as ONNX Runtime writes it after its EXTENDED optimisations (`everything`: after all that it does
    for this machine's processor), but for the one that quantises layers which were left in float on purpose.

    Raises:
        UnsupportedError: ONNX Runtime cannot run the model at all.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if everything else levels.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("optimization.disable_specified_optimizers", "WeightBiasQuantization")
        open_session(content, options)
        return target.read_bytes()


def open_session(content: bytes, options: Any = None) -> Any:
    """Return a session of ONNX Runtime's Python package on a model's bytes.

    Raises:
        UnsupportedError: ONNX Runtime cannot run the model.
    """
    import onnxruntime

    if options is None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except failures() as error:
        raise UnsupportedError(f"ONNX Runtime does not run this model: {said(error)}") from error


def said(error: Exception) -> str:
    """Return ONNX Runtime's words on one line, without its own places in C++."""
    words = " ".join(str(error).split())
    for noise in _NOISE:
        words = noise.sub("", words)
    return words[:300]


def failures() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime's Python package raises: its own kinds share no base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (state.Fail, state.InvalidGraph, state.InvalidArgument, state.NotImplemented, state.RuntimeException)
    return (*own, state.InvalidProtobuf, state.NoSuchFile, state.EPFail, RuntimeError, ValueError)


def _asking(model: ModelProto, profile: Profile) -> Profile:
    """Return the profile with the runtime that the model was tried with, where its opset is newer than the oldest
    runtime reads: the variants then ask a device for it.
    """
    import onnxruntime

    support = profile.engines[ENGINE]
    version = max((each.version for each in model.opset_import if not each.domain), default=0)
    if support.opset_max is None or version <= support.opset_max:
        return profile
    newer = dataclasses.replace(support, version_min=onnxruntime.__version__)
    return dataclasses.replace(profile, engines={**profile.engines, ENGINE: newer})


def draft(
    name: str,
    content: bytes,
    model: ModelProto,
    profile: Profile,
    order: int,
    options: Mapping[str, str] | None = None,
    features: tuple[str, ...] | None = None,
) -> Draft:
    """Return a candidate of a file's content; `model` is what it was made from, `features` are what 8 bits ask of a
    processor (None means float).
    """
    profile = _asking(model, profile)
    abi, least = profile.abi, profile.engines[ENGINE].version_min
    requires = Predicates(abi.os, abi.machine, features or (), abi.libc, abi.libc_min, least)
    memory = megabytes(RUNTIME_BYTES + 2.5 * len(content))
    precision = "fp32" if features is None else "int8"
    return Draft(name, ENGINE, precision, requires, memory, order, {"model": content}, dict(options or {}))
