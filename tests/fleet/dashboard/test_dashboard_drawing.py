"""Figures, bars, lines and pictures; and colours that everybody can read."""

from __future__ import annotations

import base64
import doctest
import itertools
import math
import re
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts.tensor import DType, Tensor
from skerry_fleet.dashboard import drawing, drift_view, words
from skerry_fleet.dashboard.pages import STATIC


@pytest.mark.parametrize("module", [words, drawing])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]  # a module is what it takes


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 10**6)), max_size=9))
def test_a_bar_is_full_and_its_parts_touch(counts: list[tuple[str, int]]) -> None:
    parts = drawing.segments(counts)
    assert len(parts) == sum(count > 0 for _, count in counts)
    for one, following in itertools.pairwise(parts):
        assert following["x"] == pytest.approx(one["x"] + one["width"], abs=0.2)
    if parts:
        assert parts[-1]["x"] + parts[-1]["width"] == pytest.approx(drawing.SCALE, abs=0.2)


@given(st.lists(st.one_of(st.none(), st.floats(-1e300, 1e300), st.just(math.nan)), max_size=30), st.floats(-10, 10))
def test_a_line_stays_in_its_frame(values: list[float | None], threshold: float) -> None:
    line = drawing.sparkline(values, threshold)
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        assert line is None
        return
    points = [tuple(map(float, each.split(","))) for each in line["points"].split()]
    assert len(points) == len(known)
    assert all(0 <= x <= line["width"] and 0 <= y <= line["height"] for x, y in points)


@given(st.lists(st.floats(width=64), min_size=16, max_size=16), st.sampled_from([DType.FP64, DType.FP32]))
def test_any_numbers_make_a_picture(values: list[float], dtype: DType) -> None:
    code = "d" if dtype is DType.FP64 else "f"
    fitting = [value if math.isnan(value) or abs(value) < 3e38 or code == "d" else 0.0 for value in values]
    address = drawing.picture(Tensor("x", dtype, (1, 16), struct.pack(f"<16{code}", *fitting)))
    assert address is not None
    pixels, width, height = read_png(address)
    assert (len(pixels), width, height) == (16, 4, 4)


def read_png(address: str) -> tuple[bytes, int, int]:
    """Return the pixels of a grey picture."""
    kind, _, text = address.partition(",")
    data = base64.b64decode(text)
    assert kind == "data:image/png;base64" and data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert (depth, colour) == (8, 0)
    size = struct.unpack(">I", data[33:37])[0]
    lines = zlib.decompress(data[41 : 41 + size])
    return b"".join(lines[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)), width, height


def test_what_is_no_small_picture_is_told_in_words() -> None:
    numbers = Tensor("x", DType.FP32, (1, 5), struct.pack("<5f", 1, 2, 3, 4, 5))
    assert drawing.picture(numbers) is None
    assert drift_view.describe(numbers) == "FP32 1×5: 1, 2, 3, 4, 5"
    assert drawing.picture(Tensor("x", DType.UINT8, (1, 200, 200), bytes(40_000))) is None
    assert drawing.picture(Tensor("x", DType.FP32, (8, 8), None, "0" * 64)) is None
    assert drawing.picture(Tensor("x", DType.UINT8, (1, 3, 4, 4), bytes(48))) is not None


def test_the_answer_is_named_by_the_signature() -> None:
    scores = Tensor("s", DType.FP32, (1, 3), struct.pack("<3f", 0.1, math.nan, 0.7))
    label = Tensor("l", DType.INT64, (1,), struct.pack("<q", 1))
    names = {"labels": ["a", "b", "c"]}
    assert drift_view.answer((scores, label), {**names, "score_output": "s"}) == "c"
    assert drift_view.answer((scores, label), {**names, "label_output": "l"}) == "b"
    assert drift_view.answer((scores,), {}) == ""


def luminance(colour: str) -> float:
    """Return relative luminance (WCAG 2.2)."""
    text = colour.lstrip("#")
    text = "".join(2 * each for each in text) if len(text) == 3 else text
    parts = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_the_contrast_that_wcag_aa_asks_for() -> None:
    palettes = re.findall(r":root \{(.*?)\}", STATIC["style.css"].decode(), re.DOTALL)
    assert len(palettes) == 2
    for palette in palettes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", palette))
        for ground in ("ground", "card", "raised", "track"):
            for text in ("ink", "soft", "sea", "good", "bad", "warn", "busy"):
                if ground != "track" or text == "ink":
                    assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["on-sea"], colours["sea"]) >= 4.5
        for fill in ("sea-fill", "good-fill", "bad-fill", "busy-fill"):
            assert contrast(colours[fill], colours["card"]) >= 3, fill


def test_nothing_is_fetched_from_elsewhere() -> None:
    for name, content in STATIC.items():
        assert not re.search(rb"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", content), name
