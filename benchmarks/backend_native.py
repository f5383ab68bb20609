"""The ONNX backend node tests through the native network engine alone: passed, unsupported (named), failed.

Wrong answers must be zero: what the engine cannot do it has to say.

    python benchmarks/backend_native.py [--json] [--only WORD] [--reasons] [--frozen]
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from skerry_compiler.engines.native.machine import Machine as Processor
from skerry_compiler.engines.network import bulk
from skerry_compiler.engines.network.cost import AVX2, AVX512, SSE, Machine
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.generate import generate
from skerry_compiler.errors import CompileError, UnsupportedError

EACH = 100  # networks in one library


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A node test with tensors only."""

    name: str
    model: onnx.ModelProto
    inputs: list[NDArray[Any]]
    outputs: list[NDArray[Any]]
    rtol: float
    atol: float


def machine() -> tuple[Machine, Processor]:
    """Return the widest machine that this computer can run."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    chosen = AVX512 if "avx512bw" in text else AVX2 if "avx2" in text else SSE
    return chosen, Processor(chosen.lanes, chosen.registers, 16, 32 * chosen.lanes, "x86_64-linux-gnu", "native")


def cases(word: str = "") -> Iterator[Case | str]:
    """Yield the node tests; only the name of those with sequences, maps or optional values."""
    for each in load_model_tests(kind="node"):
        if word in each.name:
            for inputs, outputs in each.data_sets or ():
                if all(isinstance(v, (onnx.TensorProto, np.ndarray, np.generic)) for v in (*inputs, *outputs)):
                    given, wanted = ([_plain(v) for v in side] for side in (inputs, outputs))
                    assert each.model is not None
                    yield Case(each.name, each.model, given, wanted, each.rtol, each.atol)
                else:
                    yield each.name


def _plain(value: Any) -> NDArray[Any]:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def drafted(case: Case, frozen: bool = False) -> tuple[Case, Source] | str:
    """Return a case with its generated source, or why there is none.

    `frozen`: inputs that the engine wants as constants (axes, weights) become constants with the case's content.
    """
    for _ in range(8):
        shapes = {i.name: v.shape for i, v in zip(case.model.graph.input, case.inputs, strict=False)}
        try:
            return case, generate(case.model, machine()[0], shapes=shapes)
        except UnsupportedError as error:
            said = str(error)
            wanted = [i.name for i in case.model.graph.input if f"({i.name!r:.60}) must be a constant" in said]
            if not frozen or not wanted:
                return said
            case = _frozen(case, wanted[0])
    return "too many constants"


def _frozen(case: Case, name: str) -> Case:
    """Return a case whose input of a name is a constant."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    place = [i.name for i in model.graph.input].index(name)
    model.graph.initializer.append(numpy_helper.from_array(case.inputs[place], name))
    del model.graph.input[place]
    inputs = [v for i, v in enumerate(case.inputs) if i != place]
    return dataclasses.replace(case, model=model, inputs=inputs)


def difference(case: Case, outputs: Sequence[NDArray[Any]]) -> str | None:
    """Return how outputs differ from the expected ones; None where they agree."""
    for expected, actual in zip(case.outputs, outputs, strict=True):
        try:
            np.testing.assert_allclose(actual, expected, rtol=case.rtol, atol=case.atol)
        except AssertionError as error:
            return " ".join(str(error).split())[:300]
    return None


def judged(chosen: Sequence[tuple[Case, Source]]) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each case and what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bulk.so"
        path.write_bytes(bulk.library_of([s for _, s in chosen], *machine()))
        opened = bulk.Bulk(path)
        for i, (case, _) in enumerate(chosen):
            try:
                answers = opened.run(i, case.inputs, [(o.shape, o.dtype) for o in case.outputs])
            except RuntimeError as error:
                yield case.name, str(error)
                continue
            yield case.name, difference(case, answers)


def figures(word: str = "", frozen: bool = False) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
    """Return the counts, the failures and the unsupported cases with their reasons."""
    unsupported: dict[str, str] = {}
    failed: dict[str, str] = {}
    ready: list[tuple[Case, Source]] = []
    for case in cases(word):
        if isinstance(case, str):
            unsupported[case] = "sequences, maps or optional values"
            continue
        made = drafted(case, frozen)
        if isinstance(made, str):
            unsupported[case.name] = made
        else:
            ready.append(made)
    for start in range(0, len(ready), EACH):
        failed |= {n: why for n, why in _batch(ready[start : start + EACH]) if why}
    counts = {"passed": len(ready) - len(failed), "unsupported": len(unsupported), "failed": len(failed)}
    return counts, failed, unsupported


def _batch(chosen: Sequence[tuple[Case, Source]]) -> list[tuple[str, str | None]]:
    """Judge cases together; one that does not compile is found by halving."""
    try:
        return list(judged(chosen))
    except CompileError as error:
        if len(chosen) == 1:
            return [(chosen[0][0].name, str(error))]
        half = len(chosen) // 2
        return _batch(chosen[:half]) + _batch(chosen[half:])


def main() -> int:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--reasons", action="store_true", help="why cases are unsupported")
    parser.add_argument("--frozen", action="store_true", help="axes, weights and the like become constants")
    given = parser.parse_args()
    counts, failed, unsupported = figures(given.only, given.frozen)
    if given.json:
        print(json.dumps(counts))
        return 0
    print(", ".join(f"{n} {name}" for name, n in counts.items()))
    for name, why in failed.items():
        print(f"FAILED {name}: {why}")
    if given.reasons:
        words = collections.Counter(
            why.split(" at node ")[0] + ":" + why.split(":")[-1] for why in unsupported.values()
        )
        for why, count in words.most_common():
            print(f"{count:4} {why[:160]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
