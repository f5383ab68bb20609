"""Reports on a terminal: at most 80 columns, no letter that moves the cursor, failures short."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.reports.conftest import CANDIDATES, candidate, evidence, manifest

from skerry_compiler.reports import terminal
from skerry_compiler.reports.summary import summary
from skerry_contracts.evidence import Agreement, Verdict

NAMES = st.text(min_size=1, max_size=70)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_what_a_person_wants_to_know_comes_first(found: dict[str, Any]) -> None:
    lines = terminal.text(found).splitlines()
    assert lines[0] == "pets 1.2.0 (release 3) for x86-64-v3"
    assert lines[2].startswith("  3.20 times as fast as the original, in 0.14 of its memory")
    rows = [each for each in lines if " MB " in each]
    assert [each.split()[0] for each in rows] == ["original", "✔", "·◆", "✘", "✘"]
    assert " ".join(rows[1].split()[1:]) == "ort-lean 3.20x 2.50 ms 12.5 MB 21.0 ms 500 kB 0.99991"


def test_a_failure_is_short_and_says_where_the_rest_is(found: dict[str, Any]) -> None:
    lines = terminal.text(found).splitlines()
    at = next(index for index, each in enumerate(lines) if each.startswith("  !  native-network failed"))
    said = " ".join(each.strip() for each in lines[at : at + terminal.WHY_LINES])
    assert "3 of 10 nodes have no form here (30.0%)" in said
    assert "all 10 nodes fell back to ONNX Runtime" in " ".join(" ".join(lines).split())


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), NAMES, st.floats(1e-7, 1e5), st.booleans())
def test_eighty_columns_and_no_control_letters(names: list[str], reason: str, latency: float, labelled: bool) -> None:
    agrees = Agreement(0.5, 1e30, 0.1, 0.25 if labelled else None)
    made = tuple(
        candidate(name, Verdict.CHOSEN if not index else Verdict.INACCURATE, reason * 9, latency, agreement=agrees)
        for index, name in enumerate(names)
    )
    failed = dataclasses.replace(CANDIDATES[-1], id=names[0], reason=reason * 40)
    found = summary(manifest(), "f" * 64, evidence((*made, failed), notes=(reason * 20,)))
    lines = terminal.text(found).split("\n")
    assert all(len(each) <= 80 for each in lines), max(lines, key=len)
    assert all(each.isprintable() for each in lines)
    assert terminal.plain("\n".join(lines)).isascii()


def test_bench_says_its_ratios() -> None:
    side = {"latency_ms": {"p50": 8.0, "p95": 9.0}, "rss_mb": 90.0, "cold_start_ms": 400.0, "size_bytes": 10}
    found = {
        "original": side,
        "bundle": {**side, "variant": "native", "engine": "native", "precision": "fp32"},
        "ratio": {"latency": 13.42, "memory": 0.2, "cold_start": 0.05},
        "agreement": {"cosine": 0.9991234, "max_abs": 0.0123, "top1": 1.0},
    }
    said = terminal.bench_text(found)
    assert "13.4 times as fast as the original, in 0.20 of its memory and 0.05 of its start" in said
    assert "worst cosine 0.999123, largest difference 0.0123, same class 100.00%" in " ".join(said.split())
    assert all(len(each) <= 80 for each in said.splitlines())
