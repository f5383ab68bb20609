"""More rows from few: noise as strong as the devices' sensors have it, and small shifts of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BISECTIONS = 12


def estimate_noise(reference: Array, samples: Array, clip: tuple[float, ...] = ()) -> float:
    """Return the standard deviation of white noise that `samples` f32[n, d] have beyond `reference` f32[r, d] (0:
    none).

    White noise lifts the variance in every direction alike, most visibly where the reference has almost none. The
    lift is the median over the reference's lowest-variance half of principal directions; new classes live mostly in
    the others. Where inputs are clipped, noise shows less than it is: then that noise is sought by bisection which
    lifts the reference, clipped in the same way, as much as the samples are lifted.
    """
    reference = reference.reshape(len(reference), -1).astype(np.float64)
    samples = samples.reshape(len(samples), -1).astype(np.float64)
    if len(reference) < 3 or len(samples) < 3:
        return 0.0
    values, vectors = np.linalg.eigh(np.cov(reference, rowvar=False))
    low = vectors[:, : max(1, vectors.shape[1] // 2)]
    floor = np.maximum(values[: low.shape[1]], 0.0)

    def lift(x: Array) -> float:
        return float(np.median(np.var(x @ low, axis=0, ddof=1) - floor))

    wanted = lift(samples)
    if wanted <= 0 or not clip:
        return float(np.sqrt(max(0.0, wanted)))
    white = np.random.default_rng(0).normal(size=reference.shape)
    least, most = 0.0, 8.0 * float(np.sqrt(wanted))
    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        if lift(np.clip(reference + middle * white, clip[0], clip[1])) < wanted:
            least = middle
        else:
            most = middle
    return (least + most) / 2


def shift_images(x: Array, moves: npt.NDArray[np.int64], height: int, width: int) -> Array:
    """Return images f32[n, h*w] each moved by its (dy, dx) pixels; what moves in is 0."""
    images = x.reshape(len(x), height, width)
    moved = np.zeros_like(images)
    for dy, dx in {(int(dy), int(dx)) for dy, dx in moves}:
        rows = (moves[:, 0] == dy) & (moves[:, 1] == dx)
        to_y, from_y = slice(max(dy, 0), height + min(dy, 0)), slice(max(-dy, 0), height + min(-dy, 0))
        to_x, from_x = slice(max(dx, 0), width + min(dx, 0)), slice(max(-dx, 0), width + min(-dx, 0))
        part = moved[rows]
        part[:, to_y, to_x] = images[rows][:, from_y, from_x]
        moved[rows] = part
    return moved.reshape(x.shape)


def augment(
    x: Array,
    y: Array,
    *,
    copies: int,
    noise: float,
    generator: np.random.Generator,
    shift_pixels: int = 0,
    image_shape: tuple[int, ...] = (),
    clip: tuple[float, ...] = (),
) -> tuple[Array, Array]:
    """Return x f32[n, d] and y int[n] with `copies` changed copies of every row behind them: [n * (1 + copies), d].

    Half of the copies stay where they are, so that small images are not only seen shifted.
    """
    parts = [x]
    for _ in range(copies):
        copy = x
        if shift_pixels:
            moves = generator.integers(-shift_pixels, shift_pixels + 1, size=(len(x), 2))
            moves[generator.random(len(x)) < 0.5] = 0
            copy = shift_images(x, moves, image_shape[0], image_shape[1])
        if noise > 0:
            copy = copy + generator.normal(0.0, noise, x.shape).astype(np.float32)
        parts.append(np.clip(copy, clip[0], clip[1]) if clip else copy)
    return np.concatenate(parts).astype(np.float32), np.tile(y, copies + 1)
