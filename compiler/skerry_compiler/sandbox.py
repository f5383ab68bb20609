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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_compiler.errors import KINDS, CompileError, LimitError, ToolError

RESULT = "result.json"
STEP = "step"  # a file in which the child says what it is at
HANDOVER = "handover.onnx"  # a file that it leaves for retraining
TICK_S = 0.25
_SAID_CHARACTERS = 300
_NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large")
BUDGETS = 3  # of processor time
BUSY = 4  # times its processor time by the clock: other work may take the rest

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use: address space, processor time, wall-clock time, size of one written file.

    Processor time is what a hostile file is stopped by; a machine that is busy with other work gets more of the clock.
    """

    memory_bytes: int = 6 << 30
    cpu_s: int = 180
    time_s: int = 720
    file_bytes: int = 3 << 30


def limits_for(budget_s: float) -> Limits:
    """Return the limits of a child that reads a model for a compile: more time where the person gives more."""
    cpu_s = max(Limits().cpu_s, int(BUDGETS * budget_s))
    return Limits(cpu_s=cpu_s, time_s=BUSY * cpu_s)


def call(
    module: str, job: dict[str, Any], folder: Path, limits: Limits, step: str, say: Say = lambda words: None
) -> Any:
    """Run a module of this package in a limited child and return what it answers.

    Args:
        module: dotted name of a module whose `main` ends in `answer`.
        job: plain data for it; `job.json` and `result.json` are written in `folder`.
        limits: what it may use.
        step: what the child does, for errors ("reading the model").
        say: told of it while it works.

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
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as child:
        try:
            said = _waited(child, time.monotonic() + limits.time_s, lambda: say(_during(step, folder)))
        except subprocess.TimeoutExpired as error:
            words = f"{step} took more than {limits.time_s} s{_at(folder)}"
            raise LimitError(words, hint="is the model that large? raise --budget") from error
        finally:
            child.kill()
    if not result.exists():
        raise _died(child.returncode, said, (step, _at(folder)), limits)
    answer = json.loads(result.read_text())
    if "error" in answer:
        raise KINDS[answer["kind"]](answer["error"], hint=answer["hint"])
    return answer["ok"]


def _waited(child: subprocess.Popen[bytes], deadline: float, tick: Callable[[], None]) -> bytes:
    """Return what the child wrote to its error output, when it has ended; `tick` is called while it works.

    Raises:
        subprocess.TimeoutExpired: it has not ended by the deadline.
    """
    while True:
        try:
            return child.communicate(timeout=TICK_S)[1]
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise
            tick()


def answer(argv: list[str], work: Callable[[dict[str, Any], Path], Any]) -> int:
    """Be the child: set the limits, do the work, write the result. Returns the exit code."""
    path = Path(argv[1])
    job = json.loads(path.read_text())
    limits = Limits(**job["limits"])
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        said: dict[str, Any] = {"ok": work(job, path.parent)}
    except CompileError as error:
        said = {"error": _line(str(error), 4000), "kind": type(error).__name__, "hint": error.hint}
    except MemoryError:
        words = f"the model asks for more than {limits.memory_bytes >> 20} MB of memory{_at(path.parent)}"
        said = {"error": words, "kind": "LimitError", "hint": "is the file what it should be?"}
    (path.parent / RESULT).write_text(json.dumps(said))
    return 0


def _at(folder: Path) -> str:
    """Return in words what the child was at, or nothing."""
    said = _doing(folder)
    return f", at: {said}" if said else ""


def _doing(folder: Path) -> str:
    said = folder / STEP
    return _line(said.read_text(errors="replace"), 100) if said.exists() else ""


def _during(step: str, folder: Path) -> str:
    said = _doing(folder)
    return f"{step}: {said}" if said else step


def _died(code: int, written: bytes, step: tuple[str, str], limits: Limits) -> CompileError:
    """Return the error for a child that left no result; `step` is what it did, and at what it was."""
    what, at = step
    if code == -signal.SIGXCPU:
        words = f"{what} took more than {limits.cpu_s} s of processor time{at}"
        return LimitError(words, hint="is the model that large? raise --budget")
    last = written.decode("utf-8", "replace").strip().splitlines()[-1:]
    said = _line(" ".join(last), _SAID_CHARACTERS)
    if any(word in said for word in _NO_ROOM):
        return LimitError(f"{what} found no room on the disk{at}", hint="free some; TMPDIR says where work lies")
    if code < 0 or "MemoryError" in said or "bad_alloc" in said:
        name = signal.Signals(-code).name if code < 0 else "out of memory"
        words = f"{what} crashed the reader ({name}){at}"
        return LimitError(f"{words}: {said}" if said else words, hint="is the file what it should be?")
    return ToolError(f"{what} failed{at}: {said}", hint="a fault of the compiler: please report it with the model")


def _line(text: str, most: int) -> str:
    """Return text as one line of printable characters, cut to a length."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
