"""Summaries of made-up bundles: no compile is needed to look at a report."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.contracts.examples import EVIDENCE, MANIFEST

from skerry_compiler.reports.summary import summary
from skerry_contracts.bundle import Manifest
from skerry_contracts.evidence import Agreement, Candidate, Evidence, Measurement, Unsupported, Verdict

ORIGINAL = Measurement(8.0, 9.5, 90.0, 400.0, 1_200_000, 8.0)


def candidate(name: str, verdict: Verdict, reason: str = "", latency_ms: float = 1.0, **changes: Any) -> Candidate:
    figures = Measurement(latency_ms, 1.2 * latency_ms, 12.5, 21.0, 500_000, latency_ms)
    engine = "onnxruntime" if name.startswith("ort") else "native"
    made = Candidate(name, engine, "fp32", verdict, reason, figures, Agreement(0.99991, 1e-3, 0.98))
    return dataclasses.replace(made, **changes)


FAILED = Candidate(
    "native-network",
    "native",
    "fp32",
    Verdict.FAILED,
    "the native engine has no form for Conv (2 nodes, e.g. 'a', opset 17): 3 spatial axes",
    unsupported=(
        Unsupported("Conv", 17, ("a", "b"), 2, "3 spatial axes", "1 or 2 are supported"),
        Unsupported("Loop", 17, ("steps",), 1, "this engine has no such operator", "the body written out"),
    ),
)
CANDIDATES = (
    candidate("ort-lean", Verdict.CHOSEN, "3.20 times as fast as the original", 2.5, speed=3.2),
    candidate("ort", Verdict.RUNNER_UP, "3.00 times as fast as the original; overtaken before the final", speed=3.0),
    candidate("ort-int8", Verdict.INACCURATE, "worst cosine 0.9 (at least 0.99)", 0.7, precision="int8"),
    candidate("ort-plain", Verdict.SLOWER, "0.90 times as fast as the original", 9.0, speed=0.9),
    FAILED,
)


def manifest(**changes: Any) -> Manifest:
    variant = dataclasses.replace(MANIFEST.variants[0], id="ort-lean", engine="onnxruntime")
    return dataclasses.replace(MANIFEST, variants=(variant,), **changes)


def evidence(candidates: tuple[Candidate, ...] = CANDIDATES, **changes: Any) -> Evidence:
    full: dict[str, Any] = {"operators": {"Conv": 5, "Loop": 1, "Relu": 4}, "rows": 16, "original": ORIGINAL}
    return dataclasses.replace(EVIDENCE, candidates=candidates, **{**full, **changes})


@pytest.fixture
def found() -> dict[str, Any]:
    return summary(manifest(), "f" * 64, evidence())
