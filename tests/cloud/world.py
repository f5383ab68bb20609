"""Digits as devices would send them, and the splits that the tests share: nothing here ever sees the evaluation
images.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from skerry_contracts.bundle import (
    Baseline,
    Blob,
    Contract,
    Golden,
    Manifest,
    Predicates,
    Recipe,
    Signature,
    Variant,
)
from skerry_contracts.sample import Kept, Sample, prediction_id
from skerry_contracts.sketch import Histogram, Sketch
from skerry_contracts.tensor import DType, Tensor, TensorSpec

Array = npt.NDArray[Any]
BUNDLE = "b" * 64
BOOT = "00000001-0a0b0c0d"


@dataclasses.dataclass(frozen=True)
class Split:
    """Half of the images to train on (without the held-out classes), three tenths for devices, a fifth unseen."""

    train_x: Array
    train_y: Array
    stream_x: Array
    stream_y: Array
    unseen_x: Array
    unseen_y: Array


@functools.cache
def digits(seed: int = 0, held_out: tuple[int, ...] = (8, 9)) -> Split:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order], y[order]
    a, b = len(x) // 2, len(x) * 8 // 10
    known = ~np.isin(y[:a], held_out)
    return Split(x[:a][known], y[:a][known], x[a:b], y[a:b], x[b:], y[b:])


def noisy(x: Array, generator: np.random.Generator, sigma: float = 0.1) -> Array:
    return np.clip(x + generator.normal(0, sigma, x.shape), 0, 1).astype(np.float32)


def tensor(name: str, array: Array) -> Tensor:
    array = np.ascontiguousarray(array, np.float32)
    return Tensor(name, DType.FP32, (1, *array.shape), array.tobytes())


def sample(
    seq: int,
    x: Array,
    scores: Array | None = None,
    *,
    device: str = "cam-1",
    kept: Kept = Kept.RANDOM,
    bundle: str = BUNDLE,
    boot: str = BOOT,
) -> Sample:
    scores = np.array([0.9, 0.1], np.float32) if scores is None else np.asarray(scores, np.float32)
    return Sample(
        boot_id=boot,
        seq=seq,
        time_s=1000.0 + seq,
        prediction=prediction_id(device, boot, seq),
        model="digits",
        version="1.0",
        bundle=bundle,
        variant="native",
        kept=kept,
        weight=10.0,
        inputs=(tensor("image", x),),
        outputs=(tensor("probabilities", scores),),
        confidence=float(scores.max()),
    )


def sketch(seq: int, counts: dict[str, tuple[int, ...]], *, bundle: str = BUNDLE) -> Sketch:
    histograms = tuple(Histogram(source, each) for source, each in counts.items())
    predictions = sum(next(iter(counts.values()))) if counts else 0
    return Sketch(BOOT, seq, 1000.0 * seq, 1000.0 * seq + 999, "digits", bundle, "native", predictions, histograms)


def manifest(
    labels: tuple[str, ...] = ("0", "1"),
    *,
    release: int = 1,
    source: str = "a" * 64,
    baseline: tuple[Baseline, ...] = (),
) -> Manifest:
    """A whole manifest of a digits model with one variant."""
    blob = Blob("e" * 64, 1)
    signature = Signature(
        inputs=(TensorSpec("image", DType.FP32, (1, 64)),),
        outputs=(TensorSpec("probabilities", DType.FP32, (1, len(labels))),),
        labels=labels,
        score_output="probabilities",
    )
    return Manifest(
        format=1,
        model="digits",
        version=f"{release}.0",
        release=release,
        target="host",
        signature=signature,
        variants=(Variant("native", "native", "fp32", {"library": blob}, Predicates("linux", "x86_64"), 1000),),
        golden=Golden(1, blob, blob, 1e-4, 1e-4, True),
        contract=Contract(),
        baseline=baseline,
        recipe=Recipe("0.1", source, "onnx", "host", "f" * 64),
    )
