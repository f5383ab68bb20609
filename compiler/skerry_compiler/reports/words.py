"""Figures in words, the same on the terminal and on the page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

ORDER = ("chosen", "runner-up", "slower", "inaccurate", "too-large", "unmeasured", "failed")


def timed(found: dict[str, Any]) -> bool:
    """Return whether the chosen candidate was measured, if only in a browser."""
    return any(
        each["verdict"] == "chosen" and not each["reason"].startswith("unmeasured") for each in found["candidates"]
    )


def sorted_candidates(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return candidates best first: by verdict, those that ship before those that do not, then by speed."""
    return sorted(
        found["candidates"],
        key=lambda each: (
            ORDER.index(each["verdict"]),
            not each.get("ships"),
            -each.get("ratio", {}).get("latency", 0.0),
        ),
    )


def verdict(each: dict[str, Any]) -> str:
    """Return a candidate's verdict in a word or two."""
    if each["verdict"] == "runner-up":
        return "ships too" if each.get("ships") else "passed"
    name = str(each["verdict"])
    return {"too-large": "too large", "unmeasured": "not measured"}.get(name, name)


def fallback(found: dict[str, Any]) -> str:
    """Return in a sentence how many nodes fell back from the native engine."""
    said = found.get("fell_back")
    if not said:
        return ""
    nodes = "the one node" if said["nodes"] == 1 else f"all {said['nodes']} nodes"
    if not said["fell_back"]:
        return f"{nodes} on {engine(said['engine'])}; none fell back"
    share = said["unsupported"] / said["nodes"]
    cause = f"the native engine has no form for {said['unsupported']} of them ({share:.1%})"
    return f"{nodes} fell back to {engine(said['engine'])}: {cause}"


def engine(name: str) -> str:
    """Return what people call an engine."""
    called = {
        "native": "generated code",
        "onnxruntime": "ONNX Runtime",
        "litert": "LiteRT",
        "openvino": "OpenVINO",
        "tvm": "TVM",
    }
    return called.get(name, name)


def time_ms(figures: dict[str, Any]) -> float:
    """Return the time of one inference by which candidates are compared: of the processor in the quietest round, or the
    median where that is not known; takes a measurement as plain data.
    """
    return float(figures.get("cpu_ms") or figures["latency_p50_ms"])


def duration(milliseconds: float) -> str:
    """Return a time in its own unit, to three digits.

    >>> duration(0.0123), duration(0.345), duration(4.5), duration(1500)
    ('12.3 µs', '345 µs', '4.50 ms', '1.50 s')
    """
    for unit, scale in (("s", 1e3), ("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6)):
        if milliseconds >= scale or unit == "ns":
            value = milliseconds / scale
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    raise AssertionError


def size(count: int) -> str:
    """Return a number of bytes in its own unit.

    >>> size(900), size(12_345), size(987_654), size(98_765_432)
    ('900 B', '12.3 kB', '988 kB', '98.8 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            value = count / scale
            return f"{value:.{1 if value < 100 else 0}f} {unit}"
    return f"{count} B"


def memory(megabytes: float) -> str:
    """Return memory in megabytes."""
    return f"{megabytes:.{1 if megabytes < 100 else 0}f} MB"


def ratio(value: float) -> str:
    """Return a ratio to two digits behind the point, one where it is ten and more.

    >>> ratio(0.148), ratio(4.961), ratio(13.49)
    ('0.15', '4.96', '13.5')
    """
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def cosine(value: float) -> str:
    """Return a cosine with as many nines as say something.

    >>> cosine(1.0), cosine(0.99999999), cosine(0.99478)
    ('1', '1', '0.9948')
    """
    return "1" if value >= 0.999995 else f"{value:.{5 if value >= 0.9999 else 4}f}"


def board(found: dict[str, Any], rows: int | None) -> str:
    """Return in a sentence on which board was measured, and when."""
    when = datetime.fromtimestamp(found["measured_s"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    compared = f", answers compared on {rows} rows" if rows else ""
    about = f"{found['profile']}, {found['cpu']}, agent {found['agent_version']}"
    return f"on {found['device']} ({about}) on {when}, beside {found['reference']}{compared}"
