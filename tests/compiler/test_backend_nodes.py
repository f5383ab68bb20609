"""A sample of the ONNX backend node tests through compile, bundle and the device's own runtime; all of them are a
figure of `benchmarks/compiler_backend.py`.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

from benchmarks import backend_cases, compiler_backend

EVERY = 25


def test_no_node_that_onnx_runtime_runs_is_lost(tmp_path: Path) -> None:
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = itertools.islice(backend_cases.cases(), 0, None, EVERY)
        found = compiler_backend.score(chosen, tmp_path, said.append)
    assert found["onnx_backend_cases"] > 70 and found["onnx_backend_passed"] > 50
    assert found["onnx_backend_lost"] == 0, said


def test_old_opsets_are_raised_where_an_output_is_open(tmp_path: Path) -> None:
    """Scan of opset 9 has outputs whose extents hang on values: Pad takes its amounts as a tensor from opset 11 on."""
    chosen = [case for case in backend_cases.cases() if case.name == "test_scan9_scalar"]
    found = compiler_backend.score(chosen, tmp_path, lambda words: None)
    assert found["onnx_backend_passed"] == len(chosen) == 1
