"""The ONNX backend node tests through compile -> bundle -> the device's own runtime, beside ONNX Runtime's own score in
Python. `python benchmarks/compiler_backend.py [--json] [--every N] [--name WORD]`
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from skerry_compiler.errors import CompileError, UnsupportedError

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.backend_cases import Case, Device, cases, ours, profile, reference


def score(chosen: Iterable[Case], work: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Return the counts over some cases, and say what was lost and what is unsupported, grouped by reason."""
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    board, device = profile(), Device()
    for case in chosen:
        expected = reference(case) is None
        with tempfile.TemporaryDirectory(dir=work) as folder:
            try:
                said = ours(case, board, device, Path(folder))
                kind = "passed" if said is None else "failed"
            except CompileError as error:
                said = str(error)
                kind = "unsupported" if isinstance(error, UnsupportedError) else "failed"
        counts["cases"] += 1
        counts["reference"] += expected
        counts[kind] += 1
        if kind == "unsupported":
            reasons[f"{_general(said or '')}{' (ONNX Runtime passes)' if expected else ''}"] += 1
            counts["unsupported_of_reference"] += expected
        if expected and kind == "failed":
            counts["lost"] += 1
            say(f"lost: {case.name}: {said}")
    device.close()
    for reason, count in reasons.most_common():
        say(f"unsupported: {count} x {reason}")
    keys = ("cases", "passed", "reference", "lost", "failed", "unsupported", "unsupported_of_reference")
    return {f"onnx_backend_{key}": counts[key] for key in keys}


def _general(reason: str) -> str:
    """Return a reason without the names in it."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "'..'", reason)[:110]


def figures(work: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Return onnx_backend_passed and onnx_backend_reference, and the counts behind them, over all node tests."""
    return score(cases(), work, say)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="take every Nth case")
    parser.add_argument("--name", default="", help="take cases whose name holds this word")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    chosen = [case for case in cases() if options.name in case.name][:: options.every]
    with tempfile.TemporaryDirectory() as folder:
        found = score(chosen, Path(folder), lambda said: None if options.json else print(said, flush=True))
    print(json.dumps(found) if options.json else "\n".join(f"{key} {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
