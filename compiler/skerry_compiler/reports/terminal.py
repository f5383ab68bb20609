"""Reports for a terminal: first what a person wants to know, then every candidate with its verdict. 80 columns are
enough for everything but long names.
"""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from skerry_compiler.reports import words
from skerry_compiler.reports.words import duration, memory, ratio, size

_MARKS = {"chosen": "✔", "runner-up": "·", "failed": "!", "unmeasured": "?"}
_LEGEND = {
    "✔": "✔ chosen",
    "+": "+ ships too",
    "·": "· passed",
    "✘": "✘ kept out",
    "!": "! failed",
    "?": "? not measured",
    "◆": "◆ nothing beats it in speed, memory and size",
}
_PLAIN = str.maketrans({"✔": "*", "·": "-", "✘": "x", "◆": "^", "µ": "u", "…": "~", "→": ">"})
NARROW, WIDE = 60, 110  # columns
PERCENTILES_FROM = 102  # columns at which the clock's percentiles have room
WHY_LINES = 3
_UNBROKEN: dict[str, Any] = {"break_on_hyphens": False}  # names of candidates are for copying


def text(found: dict[str, Any]) -> str:
    """Return a summary as lines."""
    about = f"{found['model']} {found['version']} (release {found['release']}) for {found['target']}"
    lines = [*_wrapped("", about)]
    if found["ships_original"]:
        lines += ["", *_wrapped("", f"THE ORIGINAL SHIPS: {next(iter(found['notes']), '')}")]
    lines += ["", *_headline(found), *_table(found), ""]
    lines += _wrapped("takes", ", ".join(found["signature"]["inputs"]))
    lines += _wrapped("gives", ", ".join(found["signature"]["outputs"]))
    lines += _wrapped("ships", ", ".join(found["variants"]))
    lines += _wrapped("nodes", words.fallback(found))
    lines.append(f"{'size':9} {size(found['size_bytes'])} ({found['size_bytes']} bytes)")
    lines.append(f"{'bundle':9} {found['bundle']}")
    if found["executed_on"] is not None:
        lines += _wrapped("measured", _measured(found))
    if "identical" in found:
        lines.append("rebuilt   identical to the recipe's bundle")
    for each in found["notes"]:
        lines += _wrapped("note", each)
    return "\n".join(lines)


def plain(lines: str) -> str:
    """Return a report in the letters of any terminal."""
    return lines.translate(_PLAIN).encode("ascii", "replace").decode()


def _measured(found: dict[str, Any]) -> str:
    if found.get("board"):
        return words.board(found["board"], found.get("rows"))
    if found["original"] is None and not words.timed(found):
        return f"nothing at speed: compiled on {found['host']}, answers from {found['executed_on']}"
    rows = f", answers compared on {found['rows']} rows" if found.get("rows") else ""
    return f"on {found['executed_on']} ({found['host']}){rows}"


def _headline(found: dict[str, Any]) -> list[str]:
    chosen = next((each for each in found["candidates"] if each["verdict"] == "chosen"), None)
    if chosen is None:
        return []
    shares = chosen.get("ratio")
    if shares is None:
        known = found.get("board") or words.timed(found)
        said = chosen["why"] if known else f"not measured: {chosen['why']}"
        return [*_wrapped("", f"{chosen['id']}, {said}", "  "), ""]
    said = (
        f"{ratio(shares['latency'])} times as fast as the original, in {ratio(shares['memory'])} of its memory, "
        f"{ratio(shares['cold_start'])} of its start and {ratio(shares['size'])} of its size"
    )
    return [*_wrapped("", said, "  "), ""]


def _table(found: dict[str, Any]) -> list[str]:
    rows = words.sorted_candidates(found)
    measured = [each for each in rows if each.get("measurement")]
    others = [each for each in rows if not each.get("measurement")]
    lines = []
    if measured:
        wide_enough = _width() >= PERCENTILES_FROM
        labelled = any((each.get("agreement") or {}).get("accuracy") is not None for each in measured)
        room = _width() - 5 - 48 - (20 if wide_enough else 0) - (10 if labelled else 0)
        wide = max(8, min(room, max(len(each["id"]) for each in measured)))
        heads = f"     {'':{wide}} {'speed':>6} {'time':>7} "
        heads += f"{'p50':>9} {'p95':>9} " if wide_enough else ""
        heads += f"{'memory':>7} {'start':>7} {'size':>7}  cosine "
        lines.append(heads.rstrip() + ("   accuracy" if labelled else ""))
        if found["original"]:
            base = {"accuracy": found["original_accuracy"]} if labelled else None
            lines.append(f"     {'original':{wide}} {_figures(found['original'], None, base, wide_enough)}".rstrip())
        for each in measured:
            lines += _lines(each, wide, wide_enough)
        marks = {_mark(each) for each in rows} | {"◆"}
        lines += ["", *_legend([said for mark, said in _LEGEND.items() if mark in marks])]
    if others:
        lines += [""] if measured else []
        for each in others:
            lines += _other(each)
    return lines


def _legend(said: list[str]) -> list[str]:
    lines = [" "]
    for each in said:
        if len(lines[-1]) + 2 + len(each) > _width():
            lines.append(" ")
        lines[-1] += f" {each}" if lines[-1] == " " else f"  {each}"
    return lines


def _lines(each: dict[str, Any], wide: int, percentiles: bool) -> list[str]:
    front = "◆" if each.get("pareto") else " "
    figures = _figures(each["measurement"], each.get("ratio", {}).get("latency"), each.get("agreement"), percentiles)
    head = f"  {_mark(each)}{front} "
    name = _line(each["id"])
    lines = [f"{head}{name:{wide}} {figures}"]
    if len(name) > wide:
        lines = [head + name, f"     {'':{wide}} {figures}"]
    if each["why"]:
        said = words.verdict(each)
        lines += _cut(each["why"] if each["why"].startswith(said) else f"{said}: {each['why']}", " " * 7, 2)
    return lines


def _other(each: dict[str, Any]) -> list[str]:
    missing = each.get("nodes", {}).get("unsupported", 0)
    if missing:
        share = f"{missing} of {each['nodes']['total']} nodes have no form here ({each['nodes']['share']:.1%})"
        said = f"{each['id']} {words.verdict(each)}: {share}: {each['reason'].partition(' has no form for ')[2]}"
    else:
        said = f"{each['id']} {words.verdict(each)}: {each['why']}"
    return _cut(said, "     ", WHY_LINES, f"  {_mark(each)}  ", "… --json and --html name all" if missing else "…")


def _mark(each: dict[str, Any]) -> str:
    if each.get("ships") and each["verdict"] != "chosen":
        return "+"
    return _MARKS.get(each["verdict"], "✘")


def _figures(figures: dict[str, Any], speed: float | None, agrees: dict[str, Any] | None, percentiles: bool) -> str:
    line = f"{'' if speed is None else ratio(speed) + 'x':>6} {duration(words.time_ms(figures)):>7} "
    if percentiles:
        line += f"{duration(figures['latency_p50_ms']):>9} {duration(figures['latency_p95_ms']):>9} "
    line += f"{memory(figures['rss_mb']):>7} {duration(figures['cold_start_ms']):>7} {size(figures['size_bytes']):>7}"
    if agrees is not None:
        line += f"  {words.cosine(agrees['cosine']) if 'cosine' in agrees else '':7}"
        if agrees.get("accuracy") is not None:
            line += f"  {agrees['accuracy']:.4f}"
    return line.rstrip()


def bench_text(found: dict[str, Any]) -> str:
    """Return a bench as lines."""
    shares, agrees = found["ratio"], found["agreement"]
    lines = [
        f"{ratio(shares['latency'])} times as fast as the original, in {ratio(shares['memory'])} of its memory and "
        f"{ratio(shares['cold_start'])} of its start",
        "",
        f"{'':10} {'time':>9} {'p50':>9} {'p95':>9} {'memory':>9} {'start':>8} {'size':>9}",
    ]
    for side in ("original", "bundle"):
        each = found[side]
        p50, p95 = (duration(each["latency_ms"][key]) for key in ("p50", "p95"))
        start, count = f"{each['cold_start_ms']:.0f} ms", size(each["size_bytes"])
        time = duration(each.get("cpu_ms") or each["latency_ms"]["p50"])
        lines.append(f"{side:10} {time:>9} {p50:>9} {p95:>9} {memory(each['rss_mb']):>9} {start:>8} {count:>9}")
    side = found["bundle"]
    lines += ["", *_wrapped("ran", f"{side['variant']} on {words.engine(side['engine'])}, {side['precision']}")]
    said = f"worst cosine {agrees['cosine']:.6f}, largest difference {agrees['max_abs']:.3g}, "
    return "\n".join([*lines, *_wrapped("agreement", f"{said}same class {agrees['top1']:.2%}")])


def _wrapped(head: str, said: str, indent: str = "") -> list[str]:
    start = f"{head:9} " if head else indent
    return textwrap.wrap(_line(said), _width(), initial_indent=start, subsequent_indent=" " * len(start), **_UNBROKEN)


def _cut(said: str, indent: str, most: int, start: str | None = None, end: str = "…") -> list[str]:
    """Return words on at most so many lines; what does not fit ends in `end`."""
    return textwrap.wrap(
        _line(said),
        _width(),
        initial_indent=indent if start is None else start,
        subsequent_indent=indent,
        max_lines=most,
        **_UNBROKEN,
        placeholder=f" {end}" if end != "…" else "…",
    )


def _line(said: str) -> str:
    """Return words without letters that move a terminal's cursor or turn its text around."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in said)


def _width() -> int:
    return min(WIDE, max(NARROW, shutil.get_terminal_size((80, 24)).columns))
