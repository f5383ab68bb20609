"""A child that runs out of time, memory or disk, or dies: one line that names the step it was at."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry_compiler import sandbox
from skerry_compiler.errors import CompileError, LimitError, ToolError

STEP = "at: drafting for the engine native"


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.parametrize(
    ("deed", "kind", "words"),
    [
        ("sleep", LimitError, "reading took more than 2 s, "),
        ("spin", LimitError, "reading took more than 1 s of processor time, "),
        ("allocate", LimitError, "the model asks for more than 6144 MB of memory, "),
        ("fill", LimitError, "reading found no room on the disk, "),
        ("crash", LimitError, "reading crashed the reader (SIGSEGV), "),
        ("mistake", ToolError, "reading failed, "),
    ],
)
def test_the_step_is_named(deed: str, kind: type[CompileError], words: str, tmp_path: Path) -> None:
    limits = sandbox.Limits(time_s=2 if deed == "sleep" else 60, cpu_s=1 if deed == "spin" else 60)
    with pytest.raises(CompileError) as caught:
        sandbox.call("tests.compiler.limits_child", {"do": deed}, tmp_path, limits, "reading")
    assert type(caught.value) is kind and caught.value.hint
    assert str(caught.value).startswith(words + STEP) and str(caught.value).isprintable()


def test_the_step_is_told_while_it_works(tmp_path: Path) -> None:
    said: list[str] = []
    limits = sandbox.Limits(time_s=60)
    found = sandbox.call("tests.compiler.limits_child", {"do": "work"}, tmp_path, limits, "reading", said.append)
    assert found == "done" and "reading: drafting for the engine native [2J" in said
