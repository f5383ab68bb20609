"""What a person sees while a compile works, and which step the error names when there is no room left."""

from __future__ import annotations

import errno
import io
import os

import pytest

from skerry_compiler import progress
from skerry_compiler.errors import CompileError, LimitError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "DRAW_S", 0.0)
    out = Terminal()
    with progress.shown(quiet=False, stream=out) as say:
        say("final of 6, best native 4.0x: 3/8, native-network 4.1x leads, now ort-lean")
        say("a name\n\x1b[2Jwith a surprise")
    shown = out.getvalue()
    drawn = [each.removeprefix("\x1b[K") for each in shown.split("\r")]
    assert "\n" not in shown and shown.endswith("\r\x1b[K")
    assert all(len(each) < 60 and "\x1b" not in each for each in drawn)
    assert any(each.startswith("[0 s] final of 6, best native 4.0x: 3/8, native-network 4") for each in drawn)


@pytest.mark.parametrize("term", ["pipe", "dumb"])
def test_elsewhere_each_stage_is_a_line(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal() if term == "dumb" else io.StringIO()
    with progress.shown(quiet=False, stream=out) as say:
        for words in ("reading", "heat 1 of 8: 1/2", "heat 1 of 8: 2/2", "final of 6, best native 4.0x: 1/8"):
            say(words)
    assert out.getvalue() == "[0 s] reading\n[0 s] heat 1 of 8\n[0 s] final of 6, best native 4.0x\n"


def test_quiet_is_silent() -> None:
    out = Terminal()
    with progress.shown(quiet=True, stream=out) as say:
        say("reading")
    assert out.getvalue() == ""


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        (MemoryError(), LimitError, "out of memory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), LimitError, "No space left"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), CompileError, "Input/output error"),
    ],
)
def test_the_step_is_named_where_there_is_no_room(
    trouble: Exception, kind: type[CompileError], words: str, quiet: bool
) -> None:
    with (
        pytest.raises(CompileError, match=f"{words}.*, at the step: building 3 candidates: now native-int8") as caught,
        progress.shown(quiet=quiet, stream=io.StringIO()) as say,
    ):
        say("building 3 candidates: now native-int8")
        raise trouble
    assert type(caught.value) is kind
