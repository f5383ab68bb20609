"""Handwritten digits (scikit-learn's bundled copy of the UCI set) dealt to everyone who may see them, once.

Three hands are dealt by a seeded shuffle: what the first model is trained on (without the held-out classes), what the
devices' world shows them later, and what only the examination uses. No image is in two hands.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

INPUT = "image"
CLASSES = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Hand:
    """Images f32[n,64] from 0 (white) to 1 (ink), and their classes i64[n]."""

    images: Images
    labels: Labels

    def only(self, keep: NDArray[np.bool_]) -> Hand:
        """Return the rows that `keep` marks."""
        return Hand(self.images[keep], self.labels[keep])

    def without(self, classes: tuple[int, ...]) -> Hand:
        """Return the rows of all other classes."""
        return self.only(~np.isin(self.labels, classes))


@dataclasses.dataclass(frozen=True, slots=True)
class Deal:
    """Who sees what."""

    train: Hand
    stream: Hand
    examination: Hand
    held_out: tuple[int, ...]


def deal(seed: int, held_out: tuple[int, ...] | None = None) -> Deal:
    """Return the three hands; the held-out classes are drawn by the seed unless given."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = (digits.data / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    rng = np.random.default_rng(seed)
    if held_out is None:
        held_out = tuple(sorted(int(each) for each in rng.choice(CLASSES, 2, replace=False)))
    order = rng.permutation(len(labels))
    first, second = int(0.45 * len(order)), int(0.78 * len(order))
    hands = [Hand(images[part], labels[part]) for part in np.split(order, [first, second])]
    return Deal(hands[0].without(held_out), hands[1], hands[2], held_out)


def worn_sensor(images: Images, sigma: float, rng: np.random.Generator) -> Images:
    """Return what a sensor with Gaussian noise of standard deviation `sigma` (full scale is 1) makes of images."""
    noisy = images + rng.normal(0.0, sigma, images.shape)
    return np.clip(noisy, 0.0, 1.0).astype(np.float32)


def write(path: Path, hand: Hand, *, with_labels: bool = True) -> Path:
    """Write a hand as the npz that the compiler and the trainer read: one array an input, and `labels`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {INPUT: hand.images} | ({"labels": hand.labels} if with_labels else {})
    np.savez(path, **arrays)
    return path
