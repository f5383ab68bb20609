"""What may ship in low precision: worst cosine, largest error and classes, each precision by its own measure."""

from __future__ import annotations

import numpy as np
import pytest

from skerry_compiler import agreement, gates, verdicts
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec

IMAGE = (TensorSpec("image", DType.FP32, (1, 4)),)
POINTS = Signature(IMAGE, (TensorSpec("points", DType.FP32, (1, 200)),), (), None, None)
SCORES = Signature(IMAGE, (TensorSpec("scores", DType.FP32, (1, 4)),), ("a", "b", "c", "d"), None, "scores")


def points(rows: int = 16) -> np.ndarray:
    return np.random.default_rng(0).uniform(20, 170, (rows, 1, 200)).astype(np.float32)


def scores(*best: float) -> agreement.Outputs:
    """Return rows of four scores of which the first is as given and the others share the rest."""
    made = np.array([[each, *[(1 - each) / 3] * 3] for each in best], np.float32)
    return (made[:, None],)


def test_a_landmark_far_off_is_refused_however_good_the_cosine() -> None:
    expected = points()
    moved = expected.copy()
    moved[3, 0, 50] += 0.3 * 170
    found = gates.judge(POINTS, (expected,), (moved,))
    assert found.cosine > 0.999 and found.refusal is not None and "worst by" in found.refusal
    blurred = expected + 0.06 * 170 * np.sign(np.random.default_rng(1).normal(size=expected.shape)).astype(np.float32)
    everywhere = gates.judge(POINTS, (expected,), (blurred,))
    assert everywhere.cosine > 0.99 and everywhere.refusal is not None and "thousandth" in everywhere.refusal
    assert gates.judge(POINTS, (expected,), (expected + np.float32(1.0),)).refusal is None


def test_values_that_are_no_numbers_are_refused() -> None:
    expected = points()
    broken = expected.copy()
    broken[0, 0, 0] = np.nan
    assert gates.judge(POINTS, (expected,), (broken,)).refusal


def test_classes_must_stay_unless_labels_say_that_nothing_is_lost() -> None:
    expected = scores(*[0.9] * 8, *[0.26] * 2)
    found = scores(*[0.9] * 8, *[0.24] * 2)
    refusal = gates.judge(SCORES, expected, found).refusal
    assert refusal is not None and "80.0% same classes" in refusal
    labels = np.array(["a"] * 8 + ["b"] * 2)  # the original was wrong on the last two anyway
    assert gates.judge(SCORES, expected, found, labels).refusal is None
    refusal = gates.judge(SCORES, expected, found, np.array(["a"] * 10)).refusal
    assert refusal is not None and "20.00% below the original's" in refusal


def test_a_hundredth_of_accuracy_may_be_lost_and_no_more() -> None:
    expected = scores(*[0.9] * 200)
    labels = np.array(["a"] * 200)
    assert gates.judge(SCORES, expected, scores(*[0.9] * 198, 0.1, 0.1), labels).refusal is None
    assert gates.judge(SCORES, expected, scores(*[0.9] * 197, 0.1, 0.1, 0.1), labels).refusal is not None


def test_where_every_class_stays_the_cosine_may_be_lower() -> None:
    expected = scores(*[0.9] * 10)
    near = gates.judge(SCORES, expected, scores(*[0.6] * 10))
    assert 0.95 < near.cosine < 0.99 and near.refusal is None
    far = gates.judge(SCORES, expected, scores(*[0.4] * 10))
    assert far.top1 == 1.0 and far.cosine < 0.95 and far.refusal is not None and "worst cosine" in far.refusal


def test_an_ill_conditioned_classifier_is_held_to_its_classes_and_a_regression_is_refused() -> None:
    expected, far = scores(*[0.9] * 10), scores(*[0.4] * 10)
    assert gates.judge(SCORES, expected, far, noisy=expected).refusal is not None
    assert gates.judge(SCORES, expected, far, noisy=scores(*[0.5] * 10)).refusal is None
    values = points()
    noisy = np.random.default_rng(4).permutation(values.ravel()).reshape(values.shape)
    refusal = gates.judge(POINTS, (values,), (noisy,), noisy=(noisy,)).refusal
    assert refusal is not None and "ill-conditioned" in refusal


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.04), ("bf16", 0.015), ("fp16", 0.003)])
def test_each_precision_has_its_own_tolerance(precision: str, share: float) -> None:
    expected = points()
    sign = np.sign(np.random.default_rng(1).normal(size=expected.shape)).astype(np.float32)
    span = np.float32(expected.max())

    def refusal(off: float, of: str) -> str | None:
        return verdicts.Answers(POINTS, (expected,), None).refusal(of, (expected + np.float32(off) * span * sign,))

    assert refusal(share, precision) is None
    assert refusal(share * 2, precision) is not None
    if precision != "int8":
        assert refusal(share * 2, "int8") is None
    assert refusal(share, "fp32") is not None


def test_noise_is_one_step_of_a_byte_and_always_the_same() -> None:
    rows = (points(), np.arange(16))
    one, two = gates.noise(rows), gates.noise(rows)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], rows[1])
    assert 0 < np.abs(one[0] - rows[0]).max() <= 170 / 255 / 2 * 1.001
