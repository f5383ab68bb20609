"""Agreement, gates, ranking, golden vectors and baselines: the parts of the verdict that are plain arithmetic."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skerry_compiler import agreement, data, golden, histograms, verdicts
from skerry_contracts.bundle import Signature
from skerry_contracts.evidence import Agreement, Measurement, Verdict
from skerry_contracts.sketch import bin_of
from skerry_contracts.tensor import DType, TensorSpec
from skerry_targets.profile import Budget

SIGNATURE = Signature(
    (TensorSpec("image", DType.FP32, (1, 3)),),
    (TensorSpec("label", DType.INT64, (1,)), TensorSpec("scores", DType.FP32, (1, 3))),
    ("ant", "bee", "cat"),
    "label",
    "scores",
)
BASE = Measurement(1.0, 1.0, 60.0, 100.0, 1000)


def outputs(*scores: list[float]) -> agreement.Outputs:
    table = np.array(scores, np.float32)[:, None]
    return np.argmax(table, axis=2).astype(np.int64), table


def test_agreement_of_same_and_other_answers() -> None:
    one = outputs([0.7, 0.2, 0.1], [0.1, 0.2, 0.7])
    same = agreement.compare(SIGNATURE, one, one, np.array(["ant", "bee"]))
    assert same == Agreement(1.0, 0.0, 1.0, 0.5)
    two = outputs([0.7, 0.2, 0.1], [0.1, 0.8, 0.1])
    other = agreement.compare(SIGNATURE, one, two, np.array(["ant", "bee"]))
    assert other.top1 == 0.5 and other.accuracy == 1.0 and other.cosine < 0.5
    assert other.max_abs == pytest.approx(0.6)


@given(
    arrays(np.float32, (3, 1, 3), elements=st.floats(width=32)),
    arrays(np.float32, (3, 1, 3), elements=st.floats(width=32)),
)
def test_agreement_is_finite_whatever_the_values(one: np.ndarray, two: np.ndarray) -> None:
    labels = np.zeros((3, 1), np.int64)
    found = agreement.compare(SIGNATURE, (labels, one), (labels, two), None)
    assert -1 <= found.cosine <= 1 and 0 <= found.max_abs < np.inf and 0 <= found.top1 <= 1
    if np.isnan(two).any() and not np.isnan(one).any():
        assert found.max_abs > 1e30


def verdict(share: float = 0.5, refusal: str | None = None, figures: Measurement = BASE) -> Verdict:
    found, reason = verdicts.gate(share, figures, refusal, Budget(10_000, 100_000_000))
    assert reason or found is Verdict.RUNNER_UP
    return found


def test_gates() -> None:
    assert verdict() is Verdict.RUNNER_UP and verdict(1.0) is Verdict.RUNNER_UP
    assert verdict(1.05) is Verdict.SLOWER
    assert verdict(refusal="off") is Verdict.INACCURATE
    assert verdict(figures=dataclasses.replace(BASE, size_bytes=10_001)) is Verdict.TOO_LARGE
    assert verdict(figures=dataclasses.replace(BASE, rss_mb=101.0)) is Verdict.TOO_LARGE


def test_answers_are_held_to_the_tolerance_of_their_precision() -> None:
    expected = outputs([0.7, 0.2, 0.1], [0.1, 0.2, 0.7])
    answers = verdicts.Answers(SIGNATURE, expected, np.array(["ant", "cat"]))
    assert answers.refusal("fp32", expected) is None and answers.refusal("int8", expected) is None
    near = outputs([0.7004, 0.2, 0.1], [0.1, 0.2, 0.7])
    assert "off by" in (answers.refusal("fp32", near) or "") and answers.refusal("int8", near) is None
    other = outputs([0.2, 0.7, 0.1], [0.1, 0.2, 0.7])
    assert "accuracy" in (answers.refusal("fp32", other) or "") and answers.refusal("int8", other) is not None
    nan = outputs([np.nan, 0.2, 0.1], [0.1, 0.2, 0.7])
    assert answers.refusal("fp32", nan) is not None and answers.compare(nan).max_abs <= verdicts.MAX_JSON_FLOAT


@pytest.mark.parametrize("dtype", [DType.FP16, DType.FP32])
def test_answers_that_are_rounded_to_halves_are_held_to_halves(dtype: DType) -> None:
    """A model of halves rounds its own answers: none can agree better than to a half's step, which 1e-4 is below."""
    signature = Signature(SIGNATURE.inputs, (TensorSpec("points", dtype, (1, 200)),), (), None, None)
    kind = np.float16 if dtype is DType.FP16 else np.float32
    exact = np.linspace(-1, 1, 400).reshape(2, 1, 200)
    rounded = exact.astype(np.float16).astype(kind)
    answers = verdicts.Answers(signature, (rounded,), None)
    step = np.nextafter(rounded.astype(np.float16), np.float16(2)).astype(kind)
    assert answers.refusal("fp32", (step,)) is None and answers.refusal("fp32", (exact.astype(kind),)) is None
    assert "off by" in (answers.refusal("fp32", ((exact * 1.01).astype(kind),)) or "")
    single = verdicts.Answers(
        dataclasses.replace(signature, outputs=SIGNATURE.outputs), outputs([0.25, 0.5, 0.25]), None
    )
    assert not verdicts.halves(single.signature, single.expected)


def test_golden_rows_are_clear_cut_and_small() -> None:
    scores = [[0.5, 0.5, 0.0], [0.9, 0.05, 0.05], [0.0, 0.1, 0.9]] * 20
    rows = data.Rows((np.arange(180, dtype=np.float32).reshape(60, 1, 3),))
    found = golden.choose(SIGNATURE, rows, outputs(*scores), int8=False)
    assert found.golden.count == golden.MAX_ROWS and found.golden.same_label
    answers = data.outputs_of(found.outputs, SIGNATURE.outputs, found.golden.count)
    assert float(np.max(np.sort(answers[1], axis=2)[..., -2])) < 0.2
    assert found.golden.inputs.size_bytes == 16 * 12 and found.golden.atol > 0
    tied = golden.choose(SIGNATURE, rows.head(2), outputs([0.5, 0.5, 0.0], [0.4, 0.4, 0.2]), int8=True)
    assert tied.golden.count == 2 and tied.golden.atol > found.golden.atol


@given(arrays(np.float32, (40, 1, 3), elements=st.floats(-100, 100, width=32)))
def test_baselines_count_as_devices_do(values: np.ndarray) -> None:
    found = histograms.baseline(SIGNATURE, data.Rows((values,)), None)
    assert [each.source for each in found] == [f"input:image:{index}" for index in range(3)]
    for index, each in enumerate(found):
        counts = [0] * len(each.counts)
        for value in values[:, 0, index]:
            counts[bin_of(each.edges, float(value))] += 1
        assert tuple(counts) == each.counts


def test_baselines_of_large_inputs_and_of_answers() -> None:
    spec = TensorSpec("sound", DType.FP32, (1, 1000))
    signature = dataclasses.replace(SIGNATURE, inputs=(spec,))
    rows = data.synthetic([spec], 30)
    answers = outputs(*[[0.97, 0.02, 0.01], [0.3, 0.3, 0.4]] * 15)
    found = {each.source: each for each in histograms.baseline(signature, rows, answers)}
    assert set(found) == {"input:sound:mean", "input:sound:std", "confidence", "label"}
    assert found["label"].counts == (15, 0, 15) and sum(found["confidence"].counts) == 30
    nothing = histograms.baseline(SIGNATURE, data.Rows((np.full((5, 1, 3), np.nan, np.float32),)), None)
    assert all(sum(each.counts) == 0 for each in nothing)


def test_golden_rows_of_large_images_are_few() -> None:
    picture = TensorSpec("image", DType.FP32, (1, 3, 320, 320))  # 1.2 MB a row
    signature = Signature((picture,), (TensorSpec("score", DType.FP32, (1, 1)),))
    rows = data.Rows((np.zeros((8, 1, 3, 320, 320), np.float32),))
    found = golden.choose(signature, rows, (np.arange(8, dtype=np.float32).reshape(8, 1, 1),), int8=True)
    assert found.golden.count == golden.MIN_ROWS


def test_made_up_rows_prove_nothing_that_rounds() -> None:
    rows = data.synthetic(SIGNATURE.inputs, 4)
    assert rows.made_up and rows.head(2).made_up and rows.pick([1]).made_up
    same = outputs([0.7, 0.2, 0.1], [0.1, 0.2, 0.7])
    answers = verdicts.Answers(SIGNATURE, same, None, made_up=True)
    assert answers.refusal("fp32", same) is None and answers.refusal("int8", same, own=True) is None
    for precision in ("bf16", "int8"):
        assert "give --evaluation" in (answers.refusal(precision, same) or "")
        assert verdicts.Answers(SIGNATURE, same, None).refusal(precision, same) is None


def test_the_range_of_answers_in_bytes_is_that_of_the_bytes() -> None:
    scores = Signature(SIGNATURE.inputs, (TensorSpec("s", DType.INT8, (1, 2)), TensorSpec("i", DType.INT64, (1,))))
    answers = (np.array([[[-128, 3]]], np.int8), np.array([[900]]))
    assert agreement.range_of(scores, answers) == 128.0
    index = Signature(SIGNATURE.inputs, (TensorSpec("i", DType.INT64, (1,)),))
    assert agreement.range_of(index, answers[1:]) == 1.0
