"""The plain data of a report: the evidence's own figures, and what became of the nodes."""

from __future__ import annotations

from typing import Any

from tests.compiler.reports.conftest import CANDIDATES, FAILED, ORIGINAL, candidate, evidence, manifest

from skerry_compiler.reports import words
from skerry_compiler.reports.summary import summary
from skerry_contracts import codec
from skerry_contracts.evidence import Verdict


def test_figures_are_the_evidences_own(found: dict[str, Any]) -> None:
    assert found["original"] == codec.to_plain(ORIGINAL)
    for plain, given in zip(found["candidates"], CANDIDATES, strict=True):
        assert plain["id"] == given.id and plain["reason"] == given.reason
        assert plain.get("measurement") == codec.to_plain(given.measurement)
        assert plain.get("agreement") == codec.to_plain(given.agreement)
    lean = found["candidates"][0]["ratio"]
    assert lean == {"latency": 3.2, "memory": 0.1389, "cold_start": 0.0525, "size": 0.4167}


def test_every_unsupported_node_is_there(found: dict[str, Any]) -> None:
    said = found["candidates"][4]["unsupported"]
    assert [(each["operator"], each["nodes"], each["opset"]) for each in said] == [
        ("Conv", ["a", "b"], 17),
        ("Loop", ["steps"], 17),
    ]
    assert found["candidates"][4]["nodes"] == {"total": 10, "unsupported": 3, "share": 0.3}
    assert found["candidates"][0]["nodes"] == {"total": 10, "unsupported": 0, "share": 0.0}


def test_what_fell_back() -> None:
    own = candidate("native-network", Verdict.CHOSEN, "4.00 times as fast as the original")
    none, lost, one = FAILED, CANDIDATES[0], (own, CANDIDATES[2])

    def said(*given: Any) -> Any:
        return summary(manifest(), "f" * 64, evidence(given))

    fell = said(lost, none)["fell_back"]
    assert fell == {"engine": "onnxruntime", "nodes": 10, "fell_back": 10, "share": 1.0, "unsupported": 3}
    assert words.fallback(said(lost, none)) == (
        "all 10 nodes fell back to ONNX Runtime: the native engine has no form for 3 of them (30.0%)"
    )
    assert said(*one)["fell_back"]["share"] == 0.0
    beaten = candidate("native", Verdict.SLOWER, "0.9 times as fast as the original")
    assert said(lost, beaten, none)["fell_back"]["fell_back"] == 0, "the native engine took it, and lost by speed"
    assert summary(manifest(), "f" * 64, None)["fell_back"] is None


def test_reasons_do_not_repeat_the_speed(found: dict[str, Any]) -> None:
    assert [each["why"] for each in found["candidates"][:4]] == [
        "",
        "overtaken before the final",
        "worst cosine 0.9 (at least 0.99)",
        "slower than the original",
    ]
