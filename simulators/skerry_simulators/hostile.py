"""Hostile models in real workers, beside one that behaves: what each tried, how it ended, whether it was survived."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from skerry_simulators.errors import SimulatorError
from skerry_simulators.hostile_models import REFUSED, Hostile, build
from skerry_simulators.hostile_table import TABLE

_LIMIT_S = 120.0
GOOD = Hostile(
    "good", "doubles its input", REFUSED, load=" ", code="for (int i = 0; i < ELEMENTS; i++) y[i] = 2 * x[i];"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one hostile model.

    `ended`: the agent's reason, or refused, answers, skipped. `wrong`: what should not have happened; empty: survived.
    """

    name: str
    tries: str
    ended: str
    why: str
    wrong: tuple[str, ...]
    seconds: float = 0.0

    @property
    def survived(self) -> bool:
        """Whether it was tried, and did no harm."""
        return not self.wrong and self.ended != "skipped"


def run_hostile(
    names: Sequence[str] = (), progress: Callable[[int, int], None] = lambda done, count: None
) -> list[Outcome]:
    """Run the models of these names (all), in the table's order.

    Raises:
        SimulatorError: an unknown name, or no C compiler.
    """
    unknown = sorted(set(names) - {each.name for each in TABLE})
    if unknown:
        raise SimulatorError(
            f"no hostile model {unknown[0]!r:.80}", hint=f"known: {', '.join(row.name for row in TABLE)}"
        )
    chosen = [each for each in TABLE if not names or each.name in names]
    with tempfile.TemporaryDirectory(prefix="skerry-hostile-") as made:
        folder = Path(made)
        outside = folder / "outside"
        outside.mkdir()
        (outside / "key").write_text("the device's key")
        (outside / "ledger").write_text("the agent's ledger")
        blobs = _build(folder, outside, chosen)
        waiting, found = list(chosen), list[Outcome]()
        while waiting:
            found += _site(folder, blobs, waiting)
            waiting = chosen[len(found) :]
            progress(len(found), len(chosen))
        return found


def _build(folder: Path, outside: Path, chosen: list[Hostile]) -> dict[str, str]:
    """Build the libraries; return each model's blob. All that act in an inference share one."""
    from skerry_compiler.errors import CompileError

    running = [each for each in chosen if not each.load]
    jobs = [GOOD, *(each for each in chosen if each.load), *running[:1]]
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            built = list(pool.map(lambda each: build(each, TABLE, outside), jobs))
    except CompileError as error:
        raise SimulatorError(str(error), hint=error.hint or "pip install skerry[compiler]") from error
    blobs = {}
    for each, data in zip(jobs, built, strict=True):
        blobs[each.name] = hashlib.sha256(data).hexdigest()
        (folder / blobs[each.name]).write_bytes(data)
    return blobs | {each.name: blobs[running[0].name] for each in running}


def _site(folder: Path, blobs: dict[str, str], waiting: list[Hostile]) -> list[Outcome]:
    """Run a supervisor until it has tried all, or one model has ended it: that one is the last outcome."""
    plan = json.dumps({each.name: blobs[each.name] for each in waiting})
    command = [sys.executable, "-m", "skerry_simulators.hostile_site", str(folder), blobs["good"], plan]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S + 5 * len(waiting), check=False)
        said, words, status = done.stdout, done.stderr, f"ended with status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        said, words, status = _text(error.stdout), _text(error.stderr), "no longer moved, and was killed"
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    over = [line for line in lines if "over" in line]
    table = {each.name: each for each in waiting}
    found = [
        Outcome(
            line["over"], table[line["over"]].tries, line["ended"], line["why"], tuple(line["wrong"]), line["seconds"]
        )
        for line in over
    ]
    if len(found) < len(waiting):
        each = waiting[len(found)]
        last = (words.strip().splitlines() or [""])[-1]
        found.append(Outcome(each.name, each.tries, "supervisor", status, (f"the supervisor {status}: {last[:300]}",)))
    return found


def _text(said: bytes | str | None) -> str:
    """Return what a killed process had said, up to its last whole line."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said or ""
    return text[: text.rfind("\n") + 1]
