"""The page: one whole HTML file, nothing from elsewhere, no name that becomes markup, the evidence's figures."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.reports.conftest import CANDIDATES, FAILED, ORIGINAL, candidate, evidence, manifest

from skerry_compiler.reports import plots
from skerry_compiler.reports.page import bench_page, page
from skerry_compiler.reports.summary import summary
from skerry_compiler.reports.words import duration, memory, size
from skerry_contracts.bundle import Signature
from skerry_contracts.evidence import Measurement, Unsupported, Verdict
from skerry_contracts.tensor import DType, TensorSpec

VOID = {"meta", "br", "line", "rect", "circle"}
TAGS = {"html", "head", "title", "style", "body", "main", "h1", "h2", "h3", "p", "b", "small", "span", "div", "section"}
TAGS |= {"svg", "text", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "details", "summary", "footer"}
HOSTILE = [
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a\u202eb\x00\x1b[2Jc\nd",
    "&lt;b&gt;",
]


class Page(HTMLParser):
    """Reads a page strictly: every tag that opens closes, in order."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID or (tag in ("rect", "circle") and f"<{tag}" in (self.get_starttag_text() or "")):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(content: str) -> Page:
    found = Page(content)
    assert found.tags <= TAGS | VOID, found.tags - TAGS
    assert not any(name.startswith("on") or name in ("src", "href", "style", "srcset") for name in found.attributes)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<iframe", content, re.IGNORECASE)
    assert content.startswith("<!doctype html>") and "default-src &#x27;none&#x27;" in content
    return found


def test_the_page_holds_the_evidences_figures(found: dict[str, Any]) -> None:
    text = read(page(found)).text
    for each in (ORIGINAL, *(each.measurement for each in CANDIDATES if each.measurement)):
        for said in (duration(each.latency_p50_ms), duration(each.latency_p95_ms), memory(each.rss_mb)):
            assert said in text
        assert duration(each.cold_start_ms) in text and size(each.size_bytes) in text
    assert "3.20× as fast" in text and "0.14×" in text and "0.05×" in text and "0.42×" in text
    assert "f" * 64 in text and found["recipe"]["source_sha256"] in text
    assert all(each.id in text for each in CANDIDATES)
    for words in ("worst cosine 0.9 (at least 0.99)", "All 10 nodes fell back to ONNX Runtime", "slower"):
        assert words in text


def test_the_page_names_every_unsupported_node(found: dict[str, Any]) -> None:
    text = read(page(found)).text
    assert "Conv (opset 17): 3 spatial axes. Nearest supported form: 1 or 2 are supported." in text
    assert "2 nodes a b" in text and "1 node steps" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(name: str) -> None:
    group = Unsupported(name, 17, (name,), 1, name, name, name)
    given = (
        candidate(name, Verdict.CHOSEN, name),
        candidate(f"{name}2", Verdict.INACCURATE, name),
        dataclasses.replace(FAILED, id=f"{name}3", reason=name, unsupported=(group,)),
    )
    tensor = TensorSpec(name if name.isprintable() else "x", DType.FP32, (1, 2))
    about = manifest(
        signature=Signature((tensor,), (dataclasses.replace(tensor, name=f"{tensor.name}4"),), (name, "b"), None, None)
    )
    found = summary(about, "f" * 64, evidence(given, notes=(name, f"repair: {name}"), host=name, operators={name: 3}))
    text = read(page(found)).text
    if name.isprintable():
        assert text.count(" ".join(name.split())) > 8
    else:
        assert "\u202e" not in text and "\x1b" not in text


FLOATS = st.floats(-1e300, 1e300, allow_nan=False)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS, st.integers(-5, 2**62)), min_size=1, max_size=4))
def test_whatever_figures_a_file_holds_are_drawn(figures: list[tuple[float, float, float, float, int]]) -> None:
    measured = [Measurement(*each) for each in figures]
    made = tuple(candidate(f"c{i}", Verdict.RUNNER_UP, measurement=each) for i, each in enumerate(measured))
    content = page(summary(manifest(), "f" * 64, evidence(made, original=measured[0], created_s=2**62)))
    read(content)
    for place in re.findall(r' (?:x|x1|x2|cx|width)="([0-9.e+-]+)%"', content):
        assert -1 <= float(place) <= 101


def test_the_front_goes_down_to_the_right() -> None:
    figures = {"fast": (1.0, 30.0, 9), "small": (4.0, 10.0, 9), "both-worse": (5.0, 31.0, 1), "kept-out": (0.1, 1.0, 1)}
    made = [
        candidate(name, Verdict.RUNNER_UP, measurement=Measurement(latency, latency, memory_mb, 1.0, count, latency))
        for name, (latency, memory_mb, count) in figures.items()
    ]
    made[-1] = dataclasses.replace(made[-1], verdict=Verdict.INACCURATE)
    found = summary(manifest(), "f" * 64, evidence(tuple(made)))
    assert plots.undominated(found) == {"fast", "small"}
    assert [each["pareto"] for each in found["candidates"]] == [True, True, True, False]
    steps = re.findall(r'<line [^>]*y1="([0-9.]+)" y2="([0-9.]+)" class="front"/>', plots.map_of(found))
    assert [float(low) <= float(high) for low, high in steps] == [True, True, True]


def test_without_evidence_or_measurement() -> None:
    assert "no record" in read(page(summary(manifest(), "f" * 64, None))).text
    nowhere = candidate("native", Verdict.CHOSEN, "unmeasured: compiled, not run", measurement=None, agreement=None)
    found = summary(manifest(), "f" * 64, evidence((nowhere,), original=None, executed_on="nowhere"))
    assert "Nothing was measured at speed" in read(page(found)).text
    found = summary(manifest(), "f" * 64, evidence(ships_original=True, notes=("no candidate passed the gates",)))
    assert "The original ships. no candidate passed the gates" in read(page(found)).text


def test_a_bench_has_a_page_too() -> None:
    side = {"latency_ms": {"p50": 8.0, "p95": 9.0}, "rss_mb": 90.0, "cold_start_ms": 400.0, "size_bytes": 10}
    found = {
        "original": side,
        "bundle": {**side, "variant": "native", "engine": "native", "precision": "fp32"},
        "ratio": {"latency": 13.42, "memory": 0.2, "cold_start": 0.05},
        "agreement": {"cosine": 0.9991234, "max_abs": 0.0123, "top1": 1.0},
    }
    text = read(bench_page(found, HOSTILE[0])).text
    assert "13.4× as fast" in text and "0.999123" in text and HOSTILE[0] in text
