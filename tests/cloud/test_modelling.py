"""Datasets, augmentation, selection, training and gates on real digits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cloud.world import digits, noisy

from skerry_cloud import augment, datasets, evaluate, train, trainers
from skerry_cloud.config import GateConfig, TrainConfig
from skerry_cloud.errors import CommandError, ConfigError, DataError
from skerry_cloud.labels.select import choose, medoids
from skerry_cloud.pipelines.modelling import combine

EIGHT = np.array([str(i) for i in range(8)])


def first(path: Path) -> datasets.Dataset:
    split = digits()
    np.savez(path, x=split.train_x, y=split.train_y, labels=EIGHT)
    return datasets.load_first(path, seed=0)


def test_a_dataset_comes_back_and_equal_ones_have_equal_bytes(tmp_path: Path) -> None:
    dataset = first(tmp_path / "d.npz")
    data = datasets.to_bytes(dataset)
    assert datasets.to_bytes(datasets.from_bytes(data)) == data
    assert len(dataset.x_evaluation) == (len(dataset.x) + len(dataset.x_evaluation)) // 5
    assert len(dataset.reference) == len(dataset.x) + len(dataset.x_evaluation)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"x": np.zeros((20, 2)), "y": np.zeros(20)}, "no array labels"),
        ({"x": np.zeros((20, 2)), "y": np.zeros(19), "labels": EIGHT}, "20 rows of x, 19 of y"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(3), "labels": EIGHT}, "at least 10"),
        ({"x": np.zeros((20, 2)), "y": np.full(20, 9), "labels": EIGHT}, "index into the 8 labels"),
        ({"x": np.full((20, 2), np.nan), "y": np.zeros(20), "labels": EIGHT}, "no numbers"),
        ({"y": np.zeros(20), "labels": EIGHT}, "are needed"),
        ({"x": np.zeros((20, 2)), "y": np.zeros(20), "labels": np.array(["a", "a"])}, "distinct"),
    ],
)
def test_bad_data_is_refused_with_the_reason(tmp_path: Path, arrays: dict[str, np.ndarray], why: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]  # arrays, not the flag
    with pytest.raises(DataError, match=why):
        datasets.load_first(tmp_path / "bad.npz", 0)
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(DataError, match="plain arrays"):
        datasets.load_first(tmp_path / "text.npz", 0)


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.1, 0.2])
def test_the_noise_of_samples_is_estimated_even_with_new_classes_and_clipping(sigma: float) -> None:
    split, generator = digits(), np.random.default_rng(0)
    samples = split.stream_x[:200] + generator.normal(0, sigma, (200, 64)).astype(np.float32)
    assert augment.estimate_noise(split.train_x, samples) == pytest.approx(sigma, abs=0.03)
    clipped = np.clip(samples, 0.0, 1.0)
    assert augment.estimate_noise(split.train_x, clipped, (0.0, 1.0)) == pytest.approx(
        sigma, abs=0.03 if sigma else 0.06
    )


@given(st.integers(-2, 2), st.integers(-2, 2))
def test_a_shift_moves_and_fills_with_nothing(dy: int, dx: int) -> None:
    image = np.arange(1, 65, dtype=np.float32).reshape(1, 64)
    moved = augment.shift_images(image, np.array([[dy, dx]]), 8, 8).reshape(8, 8)
    plain = image.reshape(8, 8)
    for y in range(8):
        for x in range(8):
            inside = 0 <= y - dy < 8 and 0 <= x - dx < 8
            assert moved[y, x] == (plain[y - dy, x - dx] if inside else 0)


def test_augmented_rows_keep_their_labels_and_bounds() -> None:
    split = digits()
    x, y = augment.augment(
        split.train_x, split.train_y, copies=3, noise=0.3, generator=np.random.default_rng(0), clip=(0.0, 1.0)
    )
    assert len(x) == 4 * len(split.train_x) and x.min() >= 0 and x.max() <= 1 and x.dtype == np.float32
    assert (y.reshape(4, -1) == split.train_y).all() and (x[: len(split.train_x)] == split.train_x).all()


def test_selection_spreads_first_and_then_takes_the_hardest() -> None:
    split, generator = digits(), np.random.default_rng(1)
    pool, truth = noisy(split.stream_x, generator), split.stream_y
    names = np.array([str(i) for i in range(10)])
    known_y = names[split.train_y]
    spread = choose(pool, np.array([], np.int64), split.train_x, known_y, pool[:0], names[:0], 40, 0)
    assert len(spread) == 40 == len(set(spread.tolist())) and len(set(truth[spread])) == 10
    chosen = choose(pool, spread, split.train_x, known_y, pool[spread], names[truth[spread]], 40, 1)
    assert len(chosen) == 40 and not set(chosen) & set(spread)
    share_new = np.isin(truth[chosen], (8, 9)).mean()
    assert share_new > 1.3 * np.isin(truth, (8, 9)).mean()  # what the model knows least is asked most
    assert len(choose(pool[:5], np.array([2]), split.train_x, known_y, pool[:0], names[:0], 40, 0)) == 4
    assert len(medoids(np.ones((50, 3), np.float32), 10, 0)) == 10


def test_training_gives_the_same_model_twice_and_the_gate_judges_it(tmp_path: Path) -> None:
    dataset = first(tmp_path / "d.npz")
    split, generator = digits(), np.random.default_rng(2)
    rows = noisy(split.stream_x[:120], generator)
    items = [(str(each), "audit" if i % 4 == 0 else "train") for i, each in enumerate(split.stream_y[:120])]
    grown, purposes = combine(dataset, rows, items)
    assert grown.labels == tuple(str(i) for i in range(10)) and purposes.count("audit") == 30
    assert grown.origin.sum() == 90 and grown.origin_evaluation.sum() == 30
    data = datasets.to_bytes(grown)
    (tmp_path / "data.npz").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    config = TrainConfig(trainer="logistic", augment_copies=2, image_shape=(8, 8), clip=(0.0, 1.0))
    models = []
    for name in ("a", "b"):
        made = train.train(tmp_path / name, tmp_path / "data.npz", digest, "image", config)
        models.append(made.onnx.read_bytes())
    assert models[0] == models[1]
    found = evaluate.answers(models[0], grown.x_evaluation)
    assert found.names == grown.labels and made.metrics["accuracy"] > 0.85
    passed = evaluate.gate(models[0], None, grown, GateConfig(min_accuracy=0.5))
    assert passed.passed and passed.accuracy == pytest.approx(made.metrics["accuracy"], abs=0.01)
    refused = evaluate.gate(models[0], models[0], grown, GateConfig(min_accuracy=0.999, min_gain=0.01))
    assert not refused.passed and len(refused.reasons) == 2
    with pytest.raises(CommandError, match="not the one"):
        train.train(tmp_path / "c", tmp_path / "data.npz", "0" * 64, "image", config)
    with pytest.raises(CommandError, match=r"longer than 0\.1 s"):
        slow = TrainConfig(max_runtime_s=0.1)
        train.train(tmp_path / "d", tmp_path / "data.npz", digest, "image", slow)


def test_a_class_only_the_audit_saw_is_trained_on() -> None:
    x = np.zeros((4, 2), np.float32)
    zeros = np.zeros(4, np.int8)
    base = datasets.Dataset(x, zeros.astype(np.int64), x, zeros.astype(np.int64), x, ("a",), zeros, zeros)
    grown, purposes = combine(base, x[:2], [("b", "audit"), ("a", "audit")])
    assert purposes == ["train", "audit"] and grown.labels == ("a", "b") and grown.y[-1] == 1


def test_a_wrong_trainer_or_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match="no trainer"):
        trainers.make("oracle", {}, 0)
    with pytest.raises(ConfigError, match="wings"):
        trainers.make("mlp", {"wings": 2}, 0)
    with pytest.raises(DataError, match="no answer"):
        evaluate.answers(b"no model", np.zeros((1, 4)))
