"""The original in its default runtime: what a user would run otherwise, measured like a candidate.

    python -m skerry_compiler.baseline MODEL SPEC.json ROWS [RESULTS [THREADS]]

Speaks the lines of skerry_agent.probe. `onnxruntime.InferenceSession` with its defaults, for a .tflite file LiteRT's
`Interpreter`, on one thread or as many as every candidate; its answers are always one thread's, so that they
do not depend on the machine. SPEC holds the signature as plain JSON. Imports nothing of Skerry
that weighs: its memory is one of the figures.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HELD_BYTES = 2 << 20  # as in the probe
TIMED_ONE_BY_ONE = 400  # as in the probe
DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


def say(answer: dict[str, Any]) -> None:
    """Write one answer line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def opened(model: str, signature: dict[str, Any], threads: int = 1) -> Any:
    """Return a model in its default runtime. What runs it is imported only here: each counts alone."""
    if model.endswith(".tflite"):
        from skerry_compiler.baseline_tflite import Session

        return Session(model, signature, threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def failures() -> tuple[type[Exception], ...]:
    """Return what a session raises. ONNX Runtime's own kinds, there once it is loaded, share no base."""
    plain = (RuntimeError, ValueError, OSError)
    if "onnxruntime" not in sys.modules:
        return plain
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (state.Fail, state.InvalidGraph, state.InvalidArgument, state.NotImplemented, state.RuntimeException)
    return (*own, *plain)


class Original:
    """The session and the rows to feed."""

    def __init__(self, model: str, signature: dict[str, Any], rows: bytes, threads: int = 1) -> None:
        """Make the session and the first rows' feeds."""
        self.session = opened(model, signature, threads)
        self.signature = signature
        self.specs = [
            (spec["name"], np.dtype(DTYPES[spec["dtype"]]), tuple(spec["shape"])) for spec in signature["inputs"]
        ]
        self.row_bytes = sum(kind.itemsize * int(np.prod(shape, dtype=np.int64)) for _, kind, shape in self.specs)
        self.rows = rows
        self.count = len(rows) // self.row_bytes if self.row_bytes else 1  # without inputs there is one answer
        held = min(self.count, max(1, HELD_BYTES // max(1, self.row_bytes)))
        self.feeds = [self.feed(index) for index in range(held)]

    def feed(self, index: int) -> dict[str, np.ndarray]:
        """Return one row as the session takes it."""
        at, feeds = index * self.row_bytes, {}
        for name, kind, shape in self.specs:
            count = int(np.prod(shape, dtype=np.int64))
            feeds[name] = np.frombuffer(self.rows, kind, count, at).reshape(shape)
            at += count * kind.itemsize
        return feeds

    def infer(self, feed: dict[str, np.ndarray]) -> list[Any]:
        """Run once, as a user would."""
        answers: list[Any] = self.session.run(None, feed)
        return answers

    def outputs(self, index: int) -> bytes:
        """Return one row's outputs as the signature orders and types them."""
        names = [each.name for each in self.session.get_outputs()]
        answers = dict(zip(names, self.infer(self.feed(index)), strict=True))
        parts = []
        names_given = {spec["name"] for spec in self.signature["outputs"]} - set(answers)
        for spec in self.signature["outputs"]:
            padded = f"{spec['name']}.shape" in names_given
            content: Any = answers[spec["name"]] if spec["name"] in answers else _shape(answers, spec["name"])
            content = filled(content, spec["shape"]) if padded else numbers(content, self.signature.get("labels", []))
            parts.append(np.ascontiguousarray(content, DTYPES[spec["dtype"]]).tobytes())
        return b"".join(parts)


def filled(content: np.ndarray, capacity: list[int]) -> np.ndarray:
    """Return an output whose extents hang on values as the signature lays it out: zeros up to its capacity, the rest
    cut off.
    """
    room = np.zeros(capacity, content.dtype)
    part = tuple(slice(0, min(one, two)) for one, two in zip(content.shape, capacity, strict=True))
    room[part] = content[part]
    return room


def _shape(answers: dict[str, Any], name: str) -> np.ndarray:
    """Return the output NAME.shape, which tells how much of NAME counts."""
    return np.array(answers[name.removesuffix(".shape")].shape, np.int64)


def numbers(content: Any, labels: list[str]) -> np.ndarray:
    """Return an output as numbers: a list of maps as scores in the labels' order, text as indices of labels."""
    if isinstance(content, list):
        return np.array([[each[key] for key in sorted(each, key=lambda k: labels.index(str(k)))] for each in content])
    array = np.asarray(content)
    if array.dtype.kind in "OU":
        return np.array([labels.index(str(each)) for each in array.reshape(-1)]).reshape(array.shape)
    return array


def timed(original: Original, runs: int) -> dict[str, Any]:
    """Return the processor time of `runs` inferences together and percentiles of some timed one by one."""
    feeds, run = itertools.cycle(original.feeds), original.session.run
    start = time.thread_time_ns()
    for feed in itertools.islice(feeds, runs):
        run(None, feed)
    cpu_ns = time.thread_time_ns() - start
    singles = sorted(_single(run, feed) for feed in itertools.islice(feeds, min(runs, TIMED_ONE_BY_ONE)))
    p50, p95 = singles[len(singles) // 2], singles[min(len(singles) - 1, len(singles) * 95 // 100)]
    return {"runs": runs, "cpu_ns": cpu_ns, "p50_ns": p50, "p95_ns": p95}


def _single(run: Callable[..., Any], feed: Any) -> int:
    start = time.perf_counter_ns()
    run(None, feed)
    return time.perf_counter_ns() - start


def peak_rss_bytes() -> int:
    """Return the most memory this process ever had resident (VmHWM; Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main(argv: list[str]) -> int:
    """Run; see the module's text."""
    start = time.perf_counter_ns()
    threads = min(int(argv[4]), len(os.sched_getaffinity(0))) if len(argv) > 4 else 1
    try:
        original = Original(argv[0], json.loads(Path(argv[1]).read_text()), Path(argv[2]).read_bytes(), threads)
        original.infer(original.feeds[0])
    except failures() as error:
        say({"error": " ".join(str(error).split())[:400]})
        return 1
    say({"ready": True, "load_ms": (time.perf_counter_ns() - start) / 1e6, "rows": original.count})
    for line in sys.stdin:
        say(timed(original, int(line)))
    peak = peak_rss_bytes()
    if len(argv) > 3:
        if threads > 1:
            original.session = opened(argv[0], original.signature)
        Path(argv[3]).write_bytes(b"".join(original.outputs(index) for index in range(original.count)))
    say({"done": True, "peak_rss_bytes": peak})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
