"""Seeded safety bugs in copies of the program: do its own tests notice? One that survives is a test that is missing.

The idea: R. DeMillo, R. Lipton, F. Sayward, "Hints on test data selection", IEEE Computer 11(4), 1978.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from skerry_simulators.errors import SimulatorError
from skerry_simulators.mutant_table import TABLE, Mutant

_ROOMS = ("contracts", "targets", "compiler", "agent", "fleet", "cloud", "simulators")
_LIMIT_S = 120
_NOTICED = 1  # pytest: tests failed; everything else is no verdict on the mutant


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the tests noticed a mutant, and how: the first that failed."""

    name: str
    file: str
    killed: bool
    how: str


def run_mutants(
    names: Sequence[str] = (), *, jobs: int = 1, progress: Callable[[int, int], None] = lambda done, count: None
) -> list[Verdict]:
    """Plant the bugs of these names (all), each in a copy of its own, and run the tests that must notice.

    Raises:
        SimulatorError: an unknown name, no checkout with tests, or a line that is no longer in the program.
    """
    unknown = sorted(set(names) - {each.name for each in TABLE})
    if unknown:
        raise SimulatorError(f"no mutant {unknown[0]!r:.80}", hint="; ".join(each.name for each in TABLE))
    root = Path(__file__).parents[2]
    if not (root / "tests" / "agent").is_dir():
        raise SimulatorError("the tests are not here", hint="run it in a checkout of the sources")
    chosen = [each for each in TABLE if not names or each.name in names]
    sources = [mutated(root, each) for each in chosen]
    found: list[Verdict] = []
    with ThreadPoolExecutor(jobs) as pool:
        for verdict in pool.map(lambda pair: _try(root, *pair), zip(chosen, sources, strict=True)):
            found.append(verdict)
            progress(len(found), len(chosen))
    return found


def mutated(root: Path, each: Mutant) -> str:
    """Return the source with the bug.

    Raises:
        SimulatorError: the line is not there, or more than once, or what comes of it is no Python.
    """
    text = (root / "agent" / "skerry_agent" / each.file).read_text()
    if text.count(each.old) != 1:
        times = text.count(each.old)
        raise SimulatorError(f"{each.name}: {each.file} has its line {times} times", hint="mend mutant_table.py")
    changed = text.replace(each.old, each.new)
    try:
        ast.parse(changed)
    except SyntaxError as error:
        raise SimulatorError(f"{each.name}: {error}", hint="mend mutant_table.py") from error
    return changed


def _try(root: Path, each: Mutant, source: str) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="skerry-mutant-") as made:
        copy = Path(made)
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        for room in (*_ROOMS, "tests", "benchmarks"):
            shutil.copytree(root / room, copy / room, ignore=ignore)
        shutil.copy(root / "pyproject.toml", copy)
        (copy / "agent" / "skerry_agent" / each.file).write_text(source)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(copy / room) for room in _ROOMS)}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *each.tests]
        try:
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Verdict(each.name, each.file, True, f"the tests no longer ended within {_LIMIT_S} s")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    words = lines[0] if lines else (done.stdout.strip().splitlines() or ["nothing was said"])[-1]
    return Verdict(each.name, each.file, done.returncode == _NOTICED, words[:200])
