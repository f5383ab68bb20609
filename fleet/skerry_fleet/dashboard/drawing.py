"""Small pictures: segments of bars, lines of charts, and samples as PNG. Numbers in, geometry or bytes out."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skerry_contracts.tensor import STRUCT_CODE, Tensor

SCALE = 1000
"""Width of a bar in its own units; the page stretches it."""
MAX_SIDE = 96
"""Larger inputs are not shown: a page of samples must stay small."""


def segments(counts: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return where each part of a stacked bar lies: `label`, `count`, `x`, `width`; empty parts are left out.

    >>> [(each["label"], each["x"], each["width"]) for each in segments([("a", 1), ("b", 0), ("c", 3)])]
    [('a', 0.0, 250.0), ('c', 250.0, 750.0)]
    """
    present = [(label, count) for label, count in counts if count > 0]
    total = sum(count for _, count in present)
    found, x = [], 0.0
    for label, count in present:
        width = SCALE * count / total
        found.append({"label": label, "count": count, "x": round(x, 1), "width": round(width, 1)})
        x += width
    return found


def length(count: float, most: float) -> float:
    """Return how long a bar for `count` is where the bar for `most` fills the width."""
    return round(SCALE * min(max(count / most, 0.0), 1.0), 1) if most > 0 else 0.0


def sparkline(values: Sequence[float | None], threshold: float | None, width: int = 320, height: int = 72) -> Any:
    """Return a line's `points` (SVG), the height `threshold_y` of its threshold, `last_x`, `last_y` and `range`.

    None where there are fewer than two numbers. Gaps are skipped.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        return None
    marks = [*known, threshold] if threshold is not None and math.isfinite(threshold) else known
    low, high = min(marks), max(marks)
    margin, spread = 6, (high - low) or 1.0

    def y_of(value: float) -> float:
        return round(height - margin - (height - 2 * margin) * (value - low) / spread, 1)

    step = (width - 2 * margin) / (len(known) - 1)
    points = [(round(margin + step * index, 1), y_of(value)) for index, value in enumerate(known)]
    return {
        "points": " ".join(f"{x},{y}" for x, y in points),
        "threshold_y": y_of(threshold) if len(marks) > len(known) and threshold is not None else None,
        "last_x": points[-1][0],
        "last_y": points[-1][1],
        "least": min(known),
        "greatest": max(known),
        "count": len(known),
        "width": width,
        "height": height,
    }


def image_shape(shape: Sequence[int]) -> tuple[int, int, int, bool] | None:
    """Return (height, width, channels, channels first) where a tensor can be seen as a small picture; else None.

    >>> image_shape((1, 64)), image_shape((1, 3, 32, 32)), image_shape((1, 28, 28, 1)), image_shape((1, 5))
    ((8, 8, 1, False), (32, 32, 3, True), (28, 28, 1, False), None)
    """
    shape = tuple(shape)
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    found: tuple[int, int, int, bool] | None = None
    if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
        found = (math.isqrt(shape[0]), math.isqrt(shape[0]), 1, False)
    elif len(shape) == 2:
        found = (shape[0], shape[1], 1, False)
    elif len(shape) == 3 and shape[0] in (1, 3):
        found = (shape[1], shape[2], shape[0], True)
    elif len(shape) == 3 and shape[2] in (1, 3):
        found = (shape[0], shape[1], shape[2], False)
    return found if found is not None and min(found[:2]) >= 2 and max(found[:2]) <= MAX_SIDE else None


def picture(tensor: Tensor) -> str | None:
    """Return a tensor as the address of a PNG that carries its own bytes; None where it is no small picture.

    Values are stretched from the least to the greatest; what is no number is black.
    """
    shape = image_shape(tensor.shape)
    if shape is None or tensor.data is None:
        return None
    height, width, channels, first = shape
    count = height * width * channels
    if count != math.prod(tensor.shape):
        return None
    values = [float(value) for value in struct.unpack(f"<{count}{STRUCT_CODE[tensor.dtype]}", tensor.data)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if not math.isfinite(high - low):  # both ends of the range of doubles: halve before subtracting
        values, low, high = [value / 4 for value in values], low / 4, high / 4
    spread = (high - low) or 1.0
    pixels = bytes(round(255 * ((value - low) / spread)) if math.isfinite(value) else 0 for value in values)
    if first and channels > 1:
        plane = height * width
        pixels = bytes(pixels[channel * plane + i] for i in range(plane) for channel in range(channels))
    return "data:image/png;base64," + base64.b64encode(png(pixels, width, height, channels)).decode()


def png(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Return a PNG of 8-bit grey (1 channel) or colour (3 channels) pixels, row by row (PNG specification, 1996)."""
    stride = width * channels
    lines = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, height * stride, stride))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def ordered(counts: Mapping[str, int], order: Sequence[str]) -> list[tuple[str, int]]:
    """Return counts in a fixed order, so that a bar's parts keep their places while it moves."""
    return [(name, counts.get(name, 0)) for name in order]
