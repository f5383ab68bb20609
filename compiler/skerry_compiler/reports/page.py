"""One page to keep: a compile or a bench as a single HTML file, without scripts, fonts or anything else from elsewhere.

Every figure on it is one of `skerry bundle show --json`; names come from models and are escaped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from skerry_compiler.reports import plots, words
from skerry_compiler.reports.markup import Markup, joined, table, tag
from skerry_compiler.reports.style import CSS
from skerry_compiler.reports.words import duration, memory, ratio, size

_LAST_S = 253_402_300_799  # the end of the year 9999
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(found: dict[str, Any]) -> str:
    """Return the page of a bundle; takes what `reports.summary.summary` gives."""
    title = f"{found['model']} {found['version']}"
    parts = [
        tag("p", "Skerry · compile report", class_="brand"),
        tag("h1", title, " ", tag("span", f"for {found['target']}")),
        _lede(found),
        _alarm(found),
        _tiles(found),
        plots.map_of(found),
        _candidates(found),
        plots.latencies(found),
        _pair(plots.starts(found), plots.sizes(found)),
        _answers(found),
        _operators(found),
        _pair(_interface(found), _recipe(found)),
        _footer(found),
    ]
    return document(title, parts)


def bench_page(found: dict[str, Any], name: str) -> str:
    """Return the page of a bench; takes what `bench.bench` gives, and what the bundle is called."""
    one, two, shares, agrees = found["original"], found["bundle"], found["ratio"], found["agreement"]
    share = two["size_bytes"] / max(1, one["size_bytes"])
    times = [duration(each.get("cpu_ms") or each["latency_ms"]["p50"]) for each in (one, two)]
    starts = [duration(each["cold_start_ms"]) for each in (one, two)]
    sizes = [size(each["size_bytes"]) for each in (one, two)]
    rows = [
        _tile("Latency", shares["latency"], "as fast", *times),
        _tile("Memory", shares["memory"], "", memory(one["rss_mb"]), memory(two["rss_mb"])),
        _tile("Cold start", shares["cold_start"], "", *starts),
        _tile("Size", share, "", *sizes),
    ]
    facts = [
        ("Worst cosine", f"{agrees['cosine']:.6f}"),
        ("Largest difference", f"{agrees['max_abs']:.3g}"),
        ("Same class", f"{agrees['top1']:.2%}"),
    ]
    ran = f"{two['variant']} on {words.engine(two['engine'])} ({two['precision']})"
    parts = [
        tag("p", "Skerry · bench", class_="brand"),
        tag("h1", name, " ", tag("span", "beside its original")),
        tag("p", tag("b", ran), " against the original in its default runtime, in one run.", class_="lede"),
        tag("div", *rows, class_="tiles"),
        plots.bench_latencies(one, two),
        tag("section", tag("h2", "Answers"), table(("", ""), facts, "facts")),
    ]
    return document(f"{name}: bench", parts)


def document(title: str, parts: Sequence[Markup]) -> str:
    """Return a whole HTML document."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(CSS)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *parts)), lang='en')}\n"


def _pair(*parts: Markup) -> Markup:
    return tag("div", *parts, class_="pair") if any(parts) else Markup("")


def _chosen(found: dict[str, Any]) -> dict[str, Any] | None:
    return next((each for each in found["candidates"] if each["verdict"] == "chosen"), None)


def _lede(found: dict[str, Any]) -> Markup:
    chosen = _chosen(found)
    if chosen is None:
        return tag("p", f"Release {found['release']}. The bundle holds no record of how it was chosen.", class_="lede")
    how = (
        f" on {words.engine(chosen['engine'])}, {chosen['precision']}, chosen of {len(found['candidates'])} candidates"
    )
    goal = {"latency": "speed", "balanced": "speed, memory and size together"}.get(
        found["objective"], found["objective"]
    )
    said = f"{how} for {goal}. Release {found['release']}."
    return tag("p", tag("b", chosen["id"]), said, class_="lede")


def _alarm(found: dict[str, Any]) -> Markup:
    if found["ships_original"]:
        return tag("p", tag("b", "The original ships. "), next(iter(found["notes"]), ""), class_="alarm")
    if found["candidates"] and found["original"] is None and not words.timed(found):
        where = found["executed_on"]
        checked = "answers were not checked" if where == "nowhere" else f"answers were checked in {where}"
        said = f"Nothing was measured at speed: this machine cannot run the target; {checked}."
        return tag("p", said, class_="alarm")
    return Markup("")


def _tiles(found: dict[str, Any]) -> Markup:
    chosen, one = _chosen(found), found["original"]
    if chosen is None or one is None or "ratio" not in chosen:
        return Markup("")
    two, shares = chosen["measurement"], chosen["ratio"]
    return tag(
        "div",
        _tile("Latency", shares["latency"], "as fast", *(duration(words.time_ms(each)) for each in (one, two))),
        _tile("Memory", shares["memory"], "", memory(one["rss_mb"]), memory(two["rss_mb"])),
        _tile("Cold start", shares["cold_start"], "", *(duration(each["cold_start_ms"]) for each in (one, two))),
        _tile("Size", shares["size"], "", size(one["size_bytes"]), size(two["size_bytes"])),
        class_="tiles",
    )


def _tile(name: str, value: float, unit: str, before: str, after: str) -> Markup:
    figure = tag("b", f"{ratio(value)}×", tag("small", f" {unit}" if unit else ""))
    return tag("div", tag("h2", name), figure, tag("p", f"{before} → ", tag("b", after)), class_="tile")


def _candidates(found: dict[str, Any]) -> Markup:
    if not found["candidates"]:
        return Markup("")
    rows = []
    if found["original"]:
        rows.append(_row("original", Markup(""), "", found["original"], {}, found["original_accuracy"]))
    for each in words.sorted_candidates(found):
        star = tag("span", " ◆", class_="star", title="nothing beats it in speed, memory and size")
        name = joined((each["id"], star if each["pareto"] else ""))
        pill = tag("span", words.verdict(each), class_=f"pill {plots.look(each)}")
        why = _short(each)
        agrees = each.get("agreement") or {}
        rows.append(_row(name, pill, why, each.get("measurement"), each.get("ratio", {}), agrees.get("accuracy")))
    heads = ["Candidate", "Verdict", "Speed", "Time", "p50", "p95", "Memory", "Start", "Size", "Accuracy", "Why"]
    used = [at for at in range(len(heads)) if at < 2 or any(row[at] for row in rows)]
    numbers = [place for place, at in enumerate(used) if 2 <= at < len(heads) - 1]
    body = table([heads[at] for at in used], [[row[at] for at in used] for row in rows], numbers=numbers)
    said = ""
    if found["original"]:
        said = (
            "Each ran beside the original on as many threads. Speed and time are the processor's in the quietest round "
            "(the clock's where several threads share an inference), p50 and p95 the clock's. ◆: no other is at least "
            "as good in speed, memory and size."
        )
    return tag("section", tag("h2", "Candidates"), tag("p", said, class_="note"), body)


def _row(
    name: object,
    pill: Markup,
    why: object,
    figures: dict[str, Any] | None,
    shares: dict[str, float],
    right: float | None,
) -> tuple[object, ...]:
    label = tag("span", name, class_="name")
    reason = tag("div", why, class_="why")
    if figures is None:
        return (label, pill, "", "", "", "", "", "", "", "", reason)
    speed = f"{ratio(shares['latency'])}×" if shares else ""
    times = (duration(words.time_ms(figures)), duration(figures["latency_p50_ms"]), duration(figures["latency_p95_ms"]))
    rest = (memory(figures["rss_mb"]), duration(figures["cold_start_ms"]), size(figures["size_bytes"]))
    return (label, pill, speed, *times, *rest, "" if right is None else f"{right:.2%}", reason)


def _short(each: dict[str, Any]) -> str:
    """Return why a candidate is where it is; operators without a form are listed further down."""
    nodes = each.get("nodes", {})
    if nodes.get("unsupported"):
        return f"no form for {nodes['unsupported']} of {nodes['total']} nodes ({nodes['share']:.1%}); named below"
    reason = str(each["why"])
    return reason if len(reason) <= 300 else f"{reason[:299]}…"


def _answers(found: dict[str, Any]) -> Markup:
    compared = [each for each in words.sorted_candidates(found) if each.get("agreement")]
    if not compared:
        return Markup("")
    rows: list[Sequence[object]] = []
    for each in compared:
        agrees = each["agreement"]
        right = agrees.get("accuracy")
        figures = (words.cosine(agrees["cosine"]), f"{agrees['max_abs']:.3g}", f"{agrees['top1']:.2%}")
        row = (tag("span", each["id"], class_="name"), each["precision"], *figures)
        rows.append((*row, "" if right is None else f"{right:.2%}"))
    heads = ["Candidate", "Precision", "Worst cosine", "Largest difference", "Same class", "Accuracy"]
    gone = {"Same class"} if not found["signature"]["labels"] else set()
    gone |= {"Accuracy"} if found["original_accuracy"] is None else set()
    rows = [[cell for head, cell in zip(heads, row, strict=True) if head not in gone] for row in rows]
    heads = [head for head in heads if head not in gone]
    said = f"Compared with the original's on {found['rows']} rows." if found.get("rows") else ""
    if found["original_accuracy"] is not None:
        said += f" The original is right on {found['original_accuracy']:.2%} of them."
    repair = [each.removeprefix("repair: ") for each in found["notes"] if each.startswith("repair: ")]
    parts = [tag("h3", "How the accuracy of bytes was repaired"), *(tag("p", _sentence(each)) for each in repair)]
    body = table(heads, rows, numbers=range(2, len(heads)))
    return tag("section", tag("h2", "Answers"), tag("p", said, class_="note"), body, *(parts if repair else []))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _operators(found: dict[str, Any]) -> Markup:
    if not found["operators"]:
        return Markup("")
    said = _sentence(words.fallback(found)) if found["fell_back"] else ""
    total = sum(found["operators"].values())
    parts = [
        tag("h2", "Operators"),
        tag("p", f"{total} node{'s' * (total > 1)} after the passes. {said}", class_="note"),
        plots.operators(found),
    ]
    for each in found["candidates"]:
        if each.get("unsupported"):
            nodes = each.get("nodes", {"share": 0.0})
            parts.append(tag("h3", f"No form for {each['id']} ({words.engine(each['engine'])}): {nodes['share']:.1%}"))
            parts += [_group(group) for group in each["unsupported"]]
    return tag("section", *parts)


def _group(group: dict[str, Any]) -> Markup:
    domain = group.get("domain", "")
    about = f"{domain + ' ' if domain not in ('', 'ai.onnx') else ''}opset {group['opset']}"
    nearest = f" Nearest supported form: {group['nearest']}." if group.get("nearest") else ""
    head = tag("p", tag("b", group["operator"]), f" ({about}): {_sentence(group['reason'])}{nearest}")
    names = tag("ul", *(tag("li", tag("code", each)) for each in group["nodes"]))
    return tag("div", head, tag("details", tag("summary", f"{group['count']} node{'s' * (group['count'] > 1)}"), names))


def _interface(found: dict[str, Any]) -> Markup:
    signature = found["signature"]
    rows: list[tuple[object, ...]] = [("Takes", tag("code", each)) for each in signature["inputs"]]
    rows += [("Gives", tag("code", each)) for each in signature["outputs"]]
    if signature["labels"]:
        labels = signature["labels"]
        rows.append(("Classes", f"{len(labels)}: {', '.join(labels[:12])}{', …' if len(labels) > 12 else ''}"))
    rows.append(("Ships", ", ".join(found["variants"])))
    rows.append(("Size", f"{size(found['size_bytes'])} with its test vectors"))
    return tag("section", tag("h2", "Interface"), table(("", ""), rows, "facts"))


def _recipe(found: dict[str, Any]) -> Markup:
    recipe = found["recipe"]
    rows: list[tuple[object, ...]] = [
        ("Bundle", tag("code", found["bundle"])),
        ("Model", joined((f"{recipe['source_format']} ", tag("code", recipe["source_sha256"])))),
    ]
    if recipe.get("calibration_sha256"):
        rows.append(("Calibration", tag("code", recipe["calibration_sha256"])))
    rows.append(("Target", joined((f"{recipe['target']} ", tag("code", recipe["target_sha256"])))))
    options = ", ".join(f"{key} {value}" for key, value in sorted(recipe.get("options", {}).items()))
    tools = ", ".join(f"{key} {value}" for key, value in sorted(recipe.get("tools", {}).items()))
    rows += [("Options", options), ("Tools", f"{recipe['compiler']}; {tools}")]
    return tag("section", tag("h2", "Recipe"), table(("", ""), rows, "facts"))


def _footer(found: dict[str, Any]) -> Markup:
    notes = [_sentence(each) for each in found["notes"] if not each.startswith("repair: ")]
    if found["ships_original"]:
        notes = notes[1:]
    said = []
    if found["executed_on"] is not None:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min(max(0, found["created_s"]), _LAST_S)))
        said.append(tag("p", f"Made on {when}, on {found['host']}."))
    return tag("footer", *said, *(tag("p", each) for each in notes))
