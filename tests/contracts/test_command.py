"""The one command: what it says where it cannot go on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skerry.__main__ import COMMANDS, main


def test_an_unknown_word_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["complie"]) == 2
    assert "skerry compile" in capsys.readouterr().err


def test_without_a_word_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().out
    assert [word for word in COMMANDS if word not in said] == []


def test_a_missing_library_names_the_extra() -> None:
    without = "import sys; sys.modules['httpx'] = None; from skerry.__main__ import main; "
    script = without + "sys.exit(main(['fleet', 'overview']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "skerry[fleet]" in done.stderr and "httpx" in done.stderr
