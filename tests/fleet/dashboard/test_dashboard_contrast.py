"""Every pair of text and ground in both palettes stands out as WCAG 2.2 wants it (1.4.3: 4.5 to 1; 1.4.11: 3 to 1)."""

from __future__ import annotations

import re

import pytest

from skerry_fleet.dashboard.pages import STATIC

TEXTS = ("ink", "soft", "sea", "good", "bad", "warn", "busy")
GROUNDS = ("ground", "card", "raised")
FILLS = ("sea-fill", "good-fill", "bad-fill", "busy-fill")


def palettes() -> dict[str, dict[str, str]]:
    """Return the colours of light and dark, as the style sheet defines them."""
    blocks = re.findall(r":root \{([^}]*)\}", STATIC["style.css"].decode())
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block)) for block in blocks)
    return {"light": light, "dark": {**light, **dark}}


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return how far two colours stand apart, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_and_white_are_as_far_apart_as_the_standard_says() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.005)  # the standard's own example of not enough


@pytest.mark.parametrize("palette", ["light", "dark"])
def test_text_can_be_read(palette: str) -> None:
    colours = palettes()[palette]
    pairs = [(text, ground) for text in TEXTS for ground in GROUNDS] + [("on-sea", "sea")]
    assert {pair: contrast(*(colours[each] for each in pair)) for pair in pairs if
            contrast(*(colours[each] for each in pair)) < 4.5} == {}  # fmt: skip


@pytest.mark.parametrize("palette", ["light", "dark"])
def test_lines_and_bars_can_be_seen(palette: str) -> None:
    colours = palettes()[palette]
    found = {name: contrast(colours[name], colours["card"]) for name in FILLS}
    assert {name: each for name, each in found.items() if each < 3} == {}
