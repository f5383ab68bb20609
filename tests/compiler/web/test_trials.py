"""Candidates for browsers are ranked by what a browser here measured, and only by answers that hold."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.compiler.web.bundles import BROWSER, CONVOLUTIONS, DENSE, bundle

from skerry_compiler import data, files, foreign
from skerry_compiler.cli import main
from skerry_compiler.engines.onnxruntime import PLAIN
from skerry_compiler.proof import prove
from skerry_compiler.web import check, trials
from skerry_contracts import codec
from skerry_contracts.evidence import Candidate, Evidence, Verdict

RIGHT = prove.originals(DENSE.name)[:, None]
FIELD = foreign.Field(
    BROWSER, bundle().manifest.signature, Path("model.onnx"), data.Rows((DENSE.rows[:, None],)), Path()
)


def candidate(name: str, verdict: Verdict = Verdict.RUNNER_UP, precision: str = "fp32") -> Candidate:
    engine = "native" if name.startswith("native") else "onnxruntime"
    return Candidate(name, engine, precision, verdict, "unmeasured: compiled, not run")


def seen(run_ms: float, answers: np.ndarray = RIGHT) -> check.Seen:
    return check.Seen("chromium 1", answers.astype(np.float32).tobytes(), 20.0, run_ms, False, "")


def played(found: dict[str, check.Seen | str], *names: str) -> foreign.Outcome:
    tried = tuple(candidate(each, Verdict.CHOSEN if not at else Verdict.RUNNER_UP) for at, each in enumerate(names))
    before = foreign.Outcome(tried, names, (RIGHT,), "chromium", None, None, None, ("x ranked by static order",))
    return trials._ranked(FIELD, before, found)


def test_the_fastest_whose_answers_hold_is_chosen_and_the_original_is_the_measure() -> None:
    found = played(
        {"native": seen(0.5, RIGHT[:, :, ::-1]), "ort": seen(2.0), PLAIN: seen(4.0), "native-b": "it trapped"},
        "native", "native-b", "ort", PLAIN,
    )  # fmt: skip
    verdicts = {each.id: each.verdict for each in found.candidates}
    assert verdicts == {
        "native": Verdict.INACCURATE, "native-b": Verdict.FAILED, "ort": Verdict.CHOSEN, PLAIN: Verdict.RUNNER_UP
    }  # fmt: skip
    assert found.ranked == ("ort", PLAIN) and found.executed_on == "chromium 1"
    speeds = {each.id: each.speed for each in found.candidates}
    assert speeds["ort"] == 2.0 and speeds[PLAIN] == 1.0
    assert not any("static order" in each for each in found.notes)


def test_slower_than_the_original_does_not_ship_and_a_tie_goes_to_the_static_order() -> None:
    found = played({"native": seen(5.0), "ort": seen(1.01), PLAIN: seen(1.0)}, "native", "ort", PLAIN)
    assert found.ranked == ("ort", PLAIN)
    assert next(each.verdict for each in found.candidates if each.id == "native") is Verdict.SLOWER


def test_what_was_not_measured_keeps_its_place_behind_what_was() -> None:
    found = played({"native": seen(5.0)}, "ort", "native", PLAIN)
    assert found.ranked == ("native", "ort", PLAIN)
    assert all(each.speed is None for each in found.candidates)
    nothing = played({}, "ort", PLAIN)
    assert nothing.ranked == ("ort", PLAIN) and nothing.executed_on == "chromium"


@pytest.mark.browser
def test_a_compile_for_browsers_is_measured_in_one(tmp_path: Path) -> None:
    path = tmp_path / "convolutions.onnx"
    onnx.save(CONVOLUTIONS.model, path)
    np.savez(tmp_path / "rows.npz", x=CONVOLUTIONS.rows)
    words = [
        "--target",
        "browser",
        "--model",
        "m",
        "--version",
        "1",
        "--release",
        "1",
        "--quiet",
        "--engines",
        "native",
    ]
    bundle_path = tmp_path / "b.skerry"
    assert main(["compile", str(path), *words, "--evaluation", str(tmp_path / "rows.npz"), "-o", str(bundle_path)]) == 0
    with files.opened(bundle_path) as made:
        assert made.evidence is not None
        evidence = codec.decode(Evidence, made.evidence)
        chosen = next(each for each in evidence.candidates if each.verdict is Verdict.CHOSEN)
        assert chosen.engine == "native" and " ms in the browser" in chosen.reason
        assert evidence.executed_on.startswith("chromium ") and evidence.executed_on[9:].split(".")[0].isdigit()


@pytest.mark.browser
def test_without_time_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = (candidate("native", Verdict.CHOSEN),)
    before = foreign.Outcome(tried, ("native",), (RIGHT,), "chromium", None, None, None, ())
    monkeypatch.setattr(foreign, "play", lambda field, built: before)
    assert trials.play(FIELD, [], time.monotonic() - 1, lambda _: None) is before
