"""ONNX Runtime's candidates: the model as it is, with its graph optimised ahead, lean in memory, and in 8 bits.

Ahead-of-time optimisation stops at EXTENDED: what lies beyond is laid out for one processor (com.microsoft.nchwc) and
fails on others.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from onnx import ModelProto

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.engines.pairs import Pairs
from skerry_compiler.errors import CompileError, UnsupportedError
from skerry_contracts.bundle import Predicates
from skerry_targets.profile import Profile

ENGINE = "onnxruntime"
PLAIN = "ort-plain"
RUNTIME_BYTES = 32 << 20  # measured: a C-interface process against one that runs generated code


def candidates(model: ModelProto, profile: Profile, pairs: Pairs) -> list[Draft | Failure]:
    """Return the candidates on ONNX Runtime; the plain one, which runs everything, is always among them.

    Args:
        model: float, fixed shapes.
        profile: the target.
        pairs: the model in 8 bits.
    """
    plain = model.SerializeToString(deterministic=True)
    profile = _asking(model, profile)
    made: list[Draft | Failure] = [_draft(PLAIN, plain, profile, 12, {})]
    try:
        optimised = optimise(plain)
        made.append(_draft("ort", optimised, profile, 10, {}))
        made.append(_draft("ort-lean", optimised, profile, 11, {"prepack": "0"}))
    except CompileError as error:
        made.append(Failure("ort", ENGINE, "fp32", str(error)))
    if "int8" in profile.engines[ENGINE].precisions and pairs.possible:
        made.append(_int8(profile, pairs))
    return made


def optimise(content: bytes) -> bytes:
    """Return the model as ONNX Runtime writes it after its EXTENDED optimisations.

    Raises:
        UnsupportedError: ONNX Runtime cannot run the model at all.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(target)
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
        raise UnsupportedError(f"ONNX Runtime does not run this model: {' '.join(str(error).split())[:300]}") from error


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


def _draft(
    name: str,
    content: bytes,
    profile: Profile,
    order: int,
    options: dict[str, str],
    features: tuple[str, ...] | None = None,
) -> Draft:
    """Return a draft; `features` are what 8 bits ask of a processor, None means float."""
    abi = profile.abi
    requires = Predicates(
        abi.os,
        abi.machine,
        features or (),
        abi.libc,
        abi.libc_min,
        profile.engines[ENGINE].version_min,
    )
    memory = megabytes(RUNTIME_BYTES + 2.5 * len(content))
    return Draft(
        name, ENGINE, "fp32" if features is None else "int8", requires, memory, order, {"model": content}, options
    )


def _int8(profile: Profile, pairs: Pairs) -> Draft | Failure:
    name = "ort-int8"
    try:
        content = optimise(pairs.model().SerializeToString(deterministic=True))
    except CompileError as error:
        return Failure(name, ENGINE, "int8", str(error))
    return _draft(name, content, profile, 20, {}, pairs.features())
