"""Charts as inline SVG. Places along the page are percentages and everything else is pixels, so a chart fits any width
without its letters growing or shrinking; colours come from the page's style.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from skerry_compiler.reports.markup import Markup, tag

ROW, LINE = 42, 22
NAME = 20  # letters of a name beside its bar: more leave no room on a phone
LEFT, RIGHT = 6.0, 97.0  # percent


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One candidate in a scatter: where, how it looks (style classes), its name where it is worth one."""

    x: float
    y: float
    look: str
    title: str
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart: name, length, whisker, style classes, and the value in words."""

    name: str
    value: float
    whisker: float | None
    look: str
    words: str


def scatter(points: Sequence[Point], front: Sequence[Point], x_words: str, y_words: str) -> Markup:
    """Return a scatter with a logarithmic x axis and a y axis from zero, and the Pareto front as steps."""
    height, top, bottom = 340, 26, 300
    points, front = [_bounded(each) for each in points], [_bounded(each) for each in front]
    low = min(each.x for each in points) / 1.5
    high = max(each.x for each in points) * 1.5
    most = max(each.y for each in points) * 1.12 or 1.0

    def across(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * math.log(x / low) / math.log(high / low)

    def down(y: float) -> float:
        return bottom - (bottom - top) * y / most

    parts = []
    for y in ticks(most):
        parts.append(tag("line", x1=f"{LEFT}%", x2=f"{RIGHT}%", y1=_n(down(y)), y2=_n(down(y)), class_="grid"))
        parts.append(tag("text", f"{y:g}", x=f"{LEFT}%", dx="-8", y=_n(down(y) + 4), class_="tick end"))
    for x in decades(low, high):
        parts.append(tag("line", x1=_p(across(x)), x2=_p(across(x)), y1=_n(top), y2=_n(bottom), class_="grid"))
        parts.append(tag("text", time_words(x), x=_p(across(x)), y=_n(bottom + 18), class_="tick middle"))
    parts.append(tag("text", y_words, x="0%", y="12", class_="axis"))
    parts.append(tag("text", x_words, x=f"{RIGHT}%", y=_n(height - 4), class_="axis end"))
    parts += _steps([(across(each.x), down(each.y)) for each in sorted(front, key=lambda each: (each.x, each.y))])
    for each in points:
        parts.append(mark(each.look, _p(across(each.x)), down(each.y), tag("title", each.title)))
    parts += _labels([(across(each.x), down(each.y), each.label) for each in points if each.label])
    return tag("svg", *parts, width="100%", height=str(height), role="img", aria_label=f"{y_words} against {x_words}")


def _bounded(point: Point) -> Point:
    """Return a point that can be drawn, whatever figures a file holds."""
    return dataclasses.replace(point, x=min(max(point.x, 1e-9), 1e15), y=min(max(point.y, 0.0), 1e15))


def bars(rows: Sequence[Bar], most: float, words: str) -> Markup:
    """Return horizontal bars from zero to `most`; what is longer ends at the edge. Names stand above their bars."""
    parts = []
    for index, row in enumerate(rows):
        y = ROW * index
        wide = 100 * _clipped(row.value, most)
        strong = " strong" if row.look == "chosen" else ""
        parts.append(tag("text", row.name, x="0%", y=str(y + 12), class_=f"name{strong}"))
        parts.append(tag("text", row.words, x="100%", y=str(y + 12), class_="value end halo"))
        shape = {"x": "0%", "y": str(y + 18), "height": "8", "rx": "2"}
        parts.append(tag("rect", class_="track", width="100%", **shape))
        parts.append(
            tag("rect", tag("title", f"{row.name}: {row.words}"), class_=row.look, width=_p(max(wide, 0.4)), **shape)
        )
        if row.whisker is not None:
            far = _p(100 * _clipped(row.whisker, most))
            parts.append(tag("line", x1=_p(wide), x2=far, y1=str(y + 22), y2=str(y + 22), class_="whisker"))
            parts.append(tag("line", x1=far, x2=far, y1=str(y + 18), y2=str(y + 26), class_="whisker"))
    height = str(ROW * len(rows) - 8)
    return tag("svg", *parts, width="100%", height=height, role="img", aria_label=words)


def _clipped(value: float, most: float) -> float:
    return min(max(value, 0.0), most) / most


def columns(rows: Sequence[Bar], words: str) -> Markup:
    """Return short rows: name, bar and value beside each other."""
    most = max(1.0, *(each.value for each in rows))
    left = 14 + 7.5 * min(NAME, max(len(each.name) for each in rows))
    parts = []
    for index, row in enumerate(rows):
        y = LINE * index
        wide = 40 * _clipped(row.value, most)
        name = row.name if len(row.name) <= NAME else f"{row.name[: NAME - 1]}…"
        shape = {"x": "0%", "y": str(y + 5), "transform": f"translate({left:.0f} 0)", "height": "10", "rx": "2"}
        parts.append(tag("text", tag("title", row.name), name, x="0%", y=str(y + 15)))
        parts.append(tag("rect", class_=row.look, width=_p(max(wide, 0.4)), **shape))
        parts.append(tag("text", row.words, x=_p(wide), y=str(y + 15), dx=_n(left + 7), class_="value"))
    return tag("svg", *parts, width="100%", height=str(LINE * len(rows)), role="img", aria_label=words)


def mark(look: str, x: str, y: float, *inside: Markup) -> Markup:
    """Return the mark of one candidate: a disc, for the original a square."""
    if look == "original":
        return tag("rect", *inside, x=x, y=_n(y - 6), width="12", height="12", transform="translate(-6 0)", class_=look)
    return tag("circle", *inside, cx=x, cy=_n(y), r="6.5", class_=look)


def _steps(corners: Sequence[tuple[float, float]]) -> list[Markup]:
    """Return the front as steps: between two points nothing better is known than the worse of both."""
    parts = []
    for (x1, y1), (x2, y2) in itertools.pairwise(corners):
        parts.append(tag("line", x1=_p(x1), x2=_p(x2), y1=_n(y1), y2=_n(y1), class_="front"))
        parts.append(tag("line", x1=_p(x2), x2=_p(x2), y1=_n(y1), y2=_n(y2), class_="front"))
    return parts


def _labels(places: Sequence[tuple[float, float, str]]) -> list[Markup]:
    """Return names beside their points, moved down where two would lie on each other; the last stays where it is."""
    parts: list[Markup] = []
    taken: list[float] = []
    for x, y, name in reversed(places):
        at = y + 4
        while any(abs(at - other) < 15 for other in taken):
            at += 3
        taken.append(at)
        side = "end" if x > 55 else "start"
        parts.append(tag("text", name, x=_p(x), y=_n(at), dx="-12" if side == "end" else "12", class_=f"halo {side}"))
    return parts


def ticks(most: float, count: int = 5) -> list[float]:
    """Return round values from zero up to `most`.

    >>> ticks(70)
    [0.0, 20.0, 40.0, 60.0]
    """
    step = 10 ** math.floor(math.log10(most / count))
    step *= next(each for each in (1, 2, 5, 10) if most / (step * each) <= count)
    return [float(step * index) for index in range(int(most / step) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return round values between two: powers of ten, with 2 and 5 times them, or more where those are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in (1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8):
        found = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(found) > 2:
            break
    return found


def time_words(milliseconds: float) -> str:
    """Return a tick of a time axis.

    >>> time_words(0.02), time_words(5), time_words(2000)
    ('20 µs', '5 ms', '2 s')
    """
    for unit, scale in (("s", 1e3), ("ms", 1.0), ("µs", 1e-3)):
        if milliseconds >= scale * 0.999:
            return f"{milliseconds / scale:g} {unit}"
    return f"{milliseconds * 1e6:g} ns"


def _p(value: float) -> str:
    return f"{value:.2f}%"


def _n(value: float) -> str:
    return f"{value:.1f}"
