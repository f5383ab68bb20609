"""Real rows for the networks of the repair benchmark: scikit-learn's digits, its two photographs, and sounds made from
oscillators and noise as instruments make them. All of it is on every machine that has scikit-learn.

What is held out comes from other digits, another part of the photographs and other seeds than what is trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

Array = NDArray[np.float32]
SIDE = 32
PATCH = 48
SOUND = 2048
RATE_HZ = 8000.0


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """Rows and what is to be learned from them: classes i64[n], or values f32[n, ...]."""

    rows: Array
    targets: NDArray[np.float32] | NDArray[np.int64]
    held_rows: Array
    held_targets: NDArray[np.float32] | NDArray[np.int64]

    @property
    def classes(self) -> int:
        """How many there are; 0 for regressions."""
        return int(self.targets.max()) + 1 if self.targets.dtype == np.int64 else 0


def _digits(held: bool) -> tuple[Array, NDArray[np.int64]]:
    rows, classes = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    order = order[1300:] if held else order[:1300]
    return (rows[order].reshape(-1, 8, 8) / 16).astype(np.float32), classes[order].astype(np.int64)


def _warped(image: Array, matrix: Array, centre: Array, side: int) -> Array:
    """Return an 8x8 image as f32[side, side] where `matrix` takes offsets from `centre` to offsets in the image."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    at = np.stack([y - centre[0], x - centre[1]], -1) @ matrix.T + np.float32(3.5)
    low = np.floor(at).astype(int)
    part = at - low
    padded = np.pad(image, 2)
    made = np.zeros((side, side), np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - part[..., 0]) * np.abs(1 - dx - part[..., 1])
            made += weight * padded[np.clip(low[..., 0] + dy + 2, 0, 11), np.clip(low[..., 1] + dx + 2, 0, 11)]
    return made


def _placed(image: Array, random: np.random.Generator, side: int) -> tuple[Array, Array]:
    """Return a digit turned, scaled and moved at random, and where its corners come to lie, f32[8] in 0..1."""
    angle, scale = random.uniform(-0.4, 0.4), random.uniform(0.45, 0.75) * side / 8
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    centre = (side / 2 + random.uniform(-0.12, 0.12, 2) * side).astype(np.float32)
    corners = np.array([[-4, -4], [-4, 4], [4, 4], [4, -4]], np.float32) * np.float32(scale) @ turn + centre
    where = (corners.reshape(8) / side).astype(np.float32)
    return _warped(image, (turn / np.float32(scale)).astype(np.float32), centre, side), where


def _photographs(held: bool) -> list[Array]:
    """Return the photographs, of each the left two thirds or the rest, f32[3, h, w] in 0..1."""
    parts = []
    for image in datasets.load_sample_images().images:
        cut = image.shape[1] * 2 // 3
        part = image[:, cut:] if held else image[:, :cut]
        parts.append((np.ascontiguousarray(part.transpose(2, 0, 1)) / 255).astype(np.float32))
    return parts


def _patch(photographs: list[Array], random: np.random.Generator, side: int) -> Array:
    image = photographs[random.integers(len(photographs))]
    y, x = (int(random.integers(n - side + 1)) for n in image.shape[1:])
    return image[:, y : y + side, x : x + side]


def _both(make: Callable[[bool, int, np.random.Generator], tuple[Array, Any]], counts: tuple[int, int]) -> Task:
    rows, targets = make(False, counts[0], np.random.default_rng(1))
    held_rows, held_targets = make(True, counts[1], np.random.default_rng(2))
    return Task(rows, targets, held_rows, held_targets)


def digits() -> Task:
    """Digits as f32[n, 1, 32, 32], turned, scaled and moved: which one is it?"""

    def make(held: bool, count: int, random: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        images, classes = _digits(held)
        chosen = random.integers(0, len(images), count)
        return np.stack([_placed(images[i], random, SIDE)[0] for i in chosen])[:, None], classes[chosen]

    return _both(make, (4000, 400))


def digit_rows() -> Task:
    """Digits as they come, f32[n, 8, 8], row after row: which one is it?"""
    rows, classes = _digits(False)
    held_rows, held_classes = _digits(True)
    return Task(rows, classes, held_rows[:400], held_classes[:400])


def digit_pixels() -> Task:
    """Digits f32[n, 64], to be given back: an autoencoder's task."""
    task = digit_rows()
    rows, held = task.rows.reshape(-1, 64), task.held_rows.reshape(-1, 64)
    return Task(rows, rows, held, held)


def spoilt() -> Task:
    """Patches of photographs f32[n, 3, 48, 48]: are they as they were, blurred, noisy, in blocks, or of few levels?"""

    def make(held: bool, count: int, random: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        photographs, kinds = _photographs(held), random.integers(0, 5, count).astype(np.int64)
        return np.stack([_spoilt(_patch(photographs, random, PATCH), int(k), random) for k in kinds]), kinds

    return _both(make, (4000, 400))


def _spoilt(patch: Array, kind: int, random: np.random.Generator) -> Array:
    if kind == 1:
        parts = [np.roll(patch, (y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        return np.asarray(np.mean(parts, 0), np.float32)
    if kind == 2:
        return (patch + random.normal(0, random.uniform(0.03, 0.12), patch.shape)).astype(np.float32)
    if kind == 3:
        size = int(random.choice([2, 3, 4]))
        return patch[:, ::size, ::size].repeat(size, 1).repeat(size, 2)[:, :PATCH, :PATCH]
    levels = np.float32(random.integers(5, 16))
    return np.asarray(np.rint(patch * levels) / levels, np.float32) if kind == 4 else patch


def noisy() -> Task:
    """Patches f32[n, 3, 48, 48] with noise, and what the noise hides, without their mean."""

    def make(held: bool, count: int, random: np.random.Generator) -> tuple[Array, Array]:
        photographs = _photographs(held)
        clean = np.stack([_patch(photographs, random, PATCH) for _ in range(count)])
        return (clean + random.normal(0, 0.08, clean.shape)).astype(np.float32), clean

    return _both(make, (1500, 100))


def small() -> Task:
    """Patches f32[n, 3, 24, 24] of half the size, and the whole ones f32[n, 3, 48, 48]."""

    def make(held: bool, count: int, random: np.random.Generator) -> tuple[Array, Array]:
        photographs = _photographs(held)
        whole = np.stack([_patch(photographs, random, PATCH) for _ in range(count)])
        return whole.reshape(count, 3, PATCH // 2, 2, PATCH // 2, 2).mean((3, 5)), whole

    return _both(make, (1500, 100))


def _scenes(held: bool, count: int, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return digits on photographs, their masks and the digits' corners."""
    photographs, (images, _) = _photographs(held), _digits(held)
    scenes, masks, corners = [], [], []
    for _ in range(count):
        ink, where = _placed(images[random.integers(len(images))], random, PATCH)
        colour = random.uniform(0, 1, (3, 1, 1)).astype(np.float32)
        ground = _patch(photographs, random, PATCH)
        scenes.append(ground * (1 - ink) + colour * ink)
        masks.append(ink[None] > 0.4)
        corners.append(where)
    return np.stack(scenes), np.stack(masks).astype(np.float32), np.stack(corners).astype(np.float32)


def masks() -> Task:
    """Digits on photographs f32[n, 3, 48, 48], and where the digit is, f32[n, 1, 48, 48]."""
    return _both(lambda held, count, random: _scenes(held, count, random)[:2], (3000, 100))


def corners() -> Task:
    """Digits on photographs f32[n, 3, 48, 48], and the corners of the digit's square, f32[n, 8]."""
    return _both(lambda held, count, random: _scenes(held, count, random)[::2], (4000, 200))


def sounds() -> Task:
    """Sounds f32[n, 1, 2048]: a plucked string, a reed, a bell, a sweep, breath, or a drum, in background noise."""

    def make(held: bool, count: int, random: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        kinds = random.integers(0, 6, count).astype(np.int64)
        made = np.stack([_sound(int(kind), random) for kind in kinds])
        return made[:, None], kinds

    return _both(make, (3000, 400))


def _sound(kind: int, random: np.random.Generator) -> Array:
    time = np.arange(SOUND) / RATE_HZ
    pitch, fade = random.uniform(110, 700), np.exp(-time * random.uniform(4, 16))
    harmonics = np.arange(1, 9)[:, None]
    phase = random.uniform(0, 2 * np.pi, (8, 1))
    tones = np.sin(2 * np.pi * pitch * harmonics * time + phase)
    noise = random.normal(size=SOUND)
    breath = np.convolve(noise, np.ones(5) / 5, "same")
    ways: list[Callable[[], Any]] = [
        lambda: (tones / harmonics).sum(0) * fade,
        lambda: (tones[::2] / harmonics[::2]).sum(0) * np.minimum(1, time * 40),
        lambda: np.sin(2 * np.pi * pitch * np.array([[1.0], [2.76], [5.4]]) * time).sum(0) * fade,
        lambda: np.sin(2 * np.pi * (pitch * time + random.uniform(400, 3000) * time**2)),
        lambda: breath * (0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(3, 12) * time)),
        lambda: np.sin(2 * np.pi * 90 * np.sqrt(time + 0.01)) * fade + noise * fade**4,
    ]
    made = ways[kind]()
    loud = random.uniform(0.2, 1.0) / max(1e-6, float(np.abs(made).max()))
    return np.asarray(made * loud + random.normal(0, random.uniform(0.01, 0.15), SOUND), np.float32)


def table(name: str) -> Task:
    """Rows of a table f32[n, features] scaled to unit variance: `breast_cancer`, `wine` (classes) or `diabetes`."""
    rows, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    cut = len(rows) * 7 // 10
    rows, target = rows[order], target[order]
    scaled = ((rows - rows[:cut].mean(0)) / rows[:cut].std(0)).astype(np.float32)
    if name == "diabetes":
        values = ((target - target[:cut].mean()) / target[:cut].std()).astype(np.float32)[:, None]
        return Task(scaled[:cut], values[:cut], scaled[cut:], values[cut:])
    return Task(scaled[:cut], target[:cut].astype(np.int64), scaled[cut:], target[cut:].astype(np.int64))
