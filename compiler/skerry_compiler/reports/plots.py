"""Which figures of a summary are drawn, and how each candidate looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry_compiler import pareto
from skerry_compiler.reports import charts, words
from skerry_compiler.reports.charts import Bar, Point
from skerry_compiler.reports.markup import Markup, tag
from skerry_compiler.reports.words import duration, memory, size

_CLOCK = "One inference by the clock: the bar is the median, the whisker the 95th percentile; other work shows here."
LIMIT = 4.0  # bars longer than so many times the original's are cut
_KEY = (
    ("original", "original"),
    ("chosen", "chosen"),
    ("ships", "ships too"),
    ("passed", "passed"),
    ("out", "kept out"),
)


def look(each: dict[str, Any]) -> str:
    """Return the style class of a candidate."""
    if each["verdict"] == "chosen":
        return "chosen"
    if each["verdict"] == "runner-up":
        return "ships" if each.get("ships") else "passed"
    return "out" if each["verdict"] != "unmeasured" else "passed"


def _measured(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in words.sorted_candidates(found) if each.get("measurement")]


def map_of(found: dict[str, Any]) -> Markup:
    """Return latency against memory, with the Pareto front."""
    measured = _measured(found)
    if not measured:
        return Markup("")
    flat = undominated(found)
    points, front = [], []
    for each in reversed(measured):
        figures = each["measurement"]
        title = f"{each['id']}: {duration(words.time_ms(figures))}, {memory(figures['rss_mb'])}"
        named = each["pareto"] or look(each) in ("chosen", "ships")
        point = Point(words.time_ms(figures), figures["rss_mb"], look(each), title, each["id"] if named else "")
        points.append(point)
        if each["id"] in flat:
            front.append(point)
    one = found["original"]
    if one is not None:
        title = f"original: {duration(words.time_ms(one))}, {memory(one['rss_mb'])}"
        points.insert(0, Point(words.time_ms(one), one["rss_mb"], "original", title, "original"))
    looks = {each.look for each in points}
    key = [tag("li", _dot(name), label) for name, label in _KEY if name in looks]
    if len(front) > 1:
        line = tag("line", x1="0", x2="22", y1="7", y2="7", class_="front")
        key.append(tag("li", tag("svg", line, width="22", height="14"), "Pareto front of the two"))
    drawn = charts.scatter(points, front, "processor time of one inference", "memory in MB")
    return tag("section", tag("h2", "Latency against memory"), drawn, tag("ul", *key, class_="key"))


def undominated(found: dict[str, Any]) -> frozenset[str]:
    """Return the ids of those that passed and that no other beats in both latency and memory."""
    passed = [each for each in _measured(found) if each["verdict"] in pareto.PASSED]
    return pareto.front({each["id"]: pareto.drawn(each["measurement"]) for each in passed})


def _dot(name: str) -> Markup:
    return tag("svg", charts.mark(name, "7", 7.0), width="14", height="14")


def _bars(
    found: dict[str, Any],
    value: Callable[[dict[str, Any]], float],
    said: Callable[[dict[str, Any]], str],
    whisker: Callable[[dict[str, Any]], float] | None = None,
) -> list[Bar]:
    sides = [("original", found["original"], "original")] if found["original"] else []
    sides += [(each["id"], each["measurement"], look(each)) for each in _measured(found)]
    return [
        Bar(name, value(figures), None if whisker is None else whisker(figures), style, said(figures))
        for name, figures, style in sides
    ]


def _chart(title: str, note: str, rows: list[Bar]) -> Markup:
    if not rows:
        return Markup("")
    longest = max(max(each.value, each.whisker or 0.0) for each in rows)
    base = rows[0].value * LIMIT if rows[0].look == "original" else longest
    most = max(min(longest, base), 1e-9)
    words_ = tag("p", note, class_="note") if note else ""
    return tag("section", tag("h2", title), words_, charts.bars(rows, most, title))


def latencies(found: dict[str, Any]) -> Markup:
    """Return one inference's time of each, with the whisker up to the 95th percentile."""
    rows = _bars(
        found,
        lambda each: each["latency_p50_ms"],
        lambda each: f"{duration(each['latency_p50_ms'])} (p95 {duration(each['latency_p95_ms'])})",
        lambda each: each["latency_p95_ms"],
    )
    return _chart("Latency", _CLOCK, rows)


def starts(found: dict[str, Any]) -> Markup:
    """Return the cold start of each."""
    rows = _bars(found, lambda each: each["cold_start_ms"], lambda each: duration(each["cold_start_ms"]))
    return _chart("Cold start", "From the start of the process to its first answer.", rows)


def sizes(found: dict[str, Any]) -> Markup:
    """Return the bytes on disk of each."""
    rows = _bars(found, lambda each: float(each["size_bytes"]), lambda each: size(each["size_bytes"]))
    return _chart("Size", "Of the model's files; a runtime that must be installed comes on top.", rows)


def operators(found: dict[str, Any]) -> Markup:
    """Return how many nodes there are of each operator."""
    counted = sorted(found["operators"].items(), key=lambda each: (-each[1], each[0]))
    native = [each for each in found["candidates"] if each["engine"] == "native" and found["fell_back"]]
    fell = found["fell_back"] and found["fell_back"]["fell_back"]
    lost = {group["operator"] for each in native if fell for group in each.get("unsupported", ())}
    rows = [
        Bar(
            name,
            float(count),
            None,
            "out" if name in lost else "passed",
            f"{count}{', no native form' * (name in lost)}",
        )
        for name, count in counted[:24]
    ]
    if len(counted) > len(rows):
        rest = counted[len(rows) :]
        rows.append(Bar(f"{len(rest)} others", float(sum(count for _, count in rest)), None, "passed", ""))
    return charts.columns(rows, "nodes by operator")


def bench_latencies(one: dict[str, Any], two: dict[str, Any]) -> Markup:
    """Return the two sides of a bench."""
    rows = [
        Bar(name, p["p50"], p["p95"], style, f"{duration(p['p50'])} (p95 {duration(p['p95'])})")
        for name, p, style in (("original", one["latency_ms"], "original"), ("bundle", two["latency_ms"], "chosen"))
    ]
    return _chart("Latency", _CLOCK, rows)
