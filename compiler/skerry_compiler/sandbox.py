"""Models are read only in a child process with limits: a hostile file can cost that child its life, never the caller's.

The child is `python -m MODULE JOB.json`; it writes `result.json` beside the job: `{"ok": ...}` or `{"error": ...,
"kind": ..., "hint": ...}`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_compiler.errors import KINDS, CompileError, LimitError, ToolError

RESULT = "result.json"
STEP = "step"  # a file in which the child says what it is at
HANDOVER = "handover.onnx"  # a file that it leaves for retraining
_SAID_CHARACTERS = 300


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use: address space, wall-clock time, size of one written file."""

    memory_bytes: int = 6 << 30
    time_s: int = 180
    file_bytes: int = 3 << 30


def call(module: str, job: dict[str, Any], folder: Path, limits: Limits, step: str) -> Any:
    """Run a module of this package in a limited child and return what it answers.

    Args:
        module: dotted name of a module whose `main` ends in `answer`.
        job: plain data for it; `job.json` and `result.json` are written in `folder`.
        limits: what it may use.
        step: what the child does, for errors ("reading the model").

    Raises:
        CompileError: what the child reported, or LimitError when it ran out of time or memory or died.
    """
    path = folder / "job.json"
    path.write_text(json.dumps({**job, "limits": dataclasses.asdict(limits)}))
    result = folder / RESULT
    result.unlink(missing_ok=True)
    (folder / STEP).unlink(missing_ok=True)
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
    }
    command = [sys.executable, "-m", module, str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=limits.time_s, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        words = f"{step} took more than {limits.time_s} s{_at(folder)}"
        raise LimitError(words, hint="is the model that large? raise --budget") from error
    if not result.exists():
        raise _died(done, f"{step}{_at(folder)}", limits)
    answer = json.loads(result.read_text())
    if "error" in answer:
        raise KINDS[answer["kind"]](answer["error"], hint=answer["hint"])
    return answer["ok"]


def answer(argv: list[str], work: Callable[[dict[str, Any], Path], Any]) -> int:
    """Be the child: set the limits, do the work, write the result. Returns the exit code."""
    path = Path(argv[1])
    job = json.loads(path.read_text())
    limits = Limits(**job["limits"])
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, limits.time_s * 2),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        said: dict[str, Any] = {"ok": work(job, path.parent)}
    except CompileError as error:
        said = {"error": _line(str(error), 4000), "kind": type(error).__name__, "hint": error.hint}
    except MemoryError:
        words = f"the model asks for more than {limits.memory_bytes >> 20} MB of memory"
        said = {"error": words, "kind": "LimitError", "hint": "is the file what it should be?"}
    (path.parent / RESULT).write_text(json.dumps(said))
    return 0


def _at(folder: Path) -> str:
    """Return in words what the child was at, or nothing."""
    said = folder / STEP
    return f", while {_line(said.read_text(errors='replace'), 100)}" if said.exists() else ""


def _died(done: subprocess.CompletedProcess[bytes], step: str, limits: Limits) -> CompileError:
    """Return the error for a child that left no result."""
    if done.returncode == -signal.SIGXCPU:
        return LimitError(f"{step} took more than {limits.time_s * 2} s of processor time")
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    said = _line(" ".join(last), _SAID_CHARACTERS)
    if done.returncode < 0 or "MemoryError" in said or "bad_alloc" in said:
        name = signal.Signals(-done.returncode).name if done.returncode < 0 else "out of memory"
        return LimitError(f"{step} crashed the reader ({name}): {said}", hint="is the file what it should be?")
    return ToolError(f"{step} failed: {said}")


def _line(text: str, most: int) -> str:
    """Return text as one line of printable characters, cut to a length."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
