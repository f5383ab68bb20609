"""ONNX Runtime on a graphics processor, strictly: a node that would fall back to the processor refuses the session.

What the package says it can do (`get_available_providers`) is what it was built with, and is never evidence: without a
driver it says the same, and a session then runs on the processor with a line in a log. So the session is asked, and its
profile.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from skerry_compiler.engines.onnxruntime import failures, said
from skerry_compiler.errors import ToolError
from skerry_compiler.proof.cuda import judge

WARM_UPS, RUNS = 100, 1000
PACKAGE = "onnxruntime-gpu"
HINT = f"pip install {PACKAGE}[cuda,cudnn] in place of onnxruntime"


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """Answers, and milliseconds of one inference: half of them took less than `p50`, 99 of 100 less than `p99`."""

    answers: NDArray[Any]
    p50_ms: float
    p99_ms: float
    nodes: dict[str, Counter[str]]


def strict(model: onnx.ModelProto, rows: NDArray[Any]) -> Ran:
    """Return what a model answers on the graphics processor, all of it there; products in full float32, not TF32.

    Args:
        model: one input, one output.
        rows: rows x the input without the batch, in the model's type.

    Raises:
        ToolError: the session is refused, runs elsewhere, or some node does.
    """
    import onnxruntime

    if judge.PROVIDER not in onnxruntime.get_available_providers():
        raise ToolError("this ONNX Runtime is built without CUDA", hint=HINT)
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()  # CUDA's libraries from the wheels, where they are
    options = _options()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.enable_profiling = True
    providers = [(judge.PROVIDER, {"device_id": "0", "use_tf32": "0"})]
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        options.profile_file_prefix = f"{folder}/profile"
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        except failures() as error:
            raise ToolError(f"ONNX Runtime refuses a strict session: {said(error)}", hint=HINT) from error
        chosen = session.get_providers()
        if not chosen or chosen[0] != judge.PROVIDER:
            raise ToolError(f"ONNX Runtime's session runs on {', '.join(chosen)}", hint=HINT)
        session.disable_fallback()  # or a run that fails would be tried again on the processor
        answers = _answers(session, rows)
        found = judge.nodes(Path(session.end_profiling()).read_bytes())
    elsewhere = judge.strays(found)
    if elsewhere:
        raise ToolError(f"not all of it ran on the graphics processor: {elsewhere}")
    return Ran(answers, *_times(session, rows), found)


def plain(model: onnx.ModelProto, rows: NDArray[Any]) -> Ran:
    """Return the same of this machine's processor, with all its threads."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
    return Ran(_answers(session, rows), *_times(session, rows), {})


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def _answers(session: Any, rows: NDArray[Any]) -> NDArray[Any]:
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: row[None]})[0] for row in rows])


def _times(session: Any, rows: NDArray[Any]) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds, copies to the device and back included."""
    feed, times = {session.get_inputs()[0].name: rows[:1]}, []
    for number in range(WARM_UPS + RUNS):
        start = time.perf_counter_ns()
        session.run(None, feed)
        if number >= WARM_UPS:
            times.append((time.perf_counter_ns() - start) / 1e6)
    return judge.percentile(times, 0.5), judge.percentile(times, 0.99)
