"""`skerry NOUN …`: what the dispatcher itself answers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from skerry.__main__ import main


@pytest.mark.parametrize("word", ["bundel", "nonsense"])
def test_an_unknown_command_is_one_line_and_code_2(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    said = capsys.readouterr().err
    assert said.startswith("skerry: error: no command ") and said.count("\n") == 1
    assert ("did you mean `skerry bundle`?" in said) == (word == "bundel")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)  # as `head` does, before the first line is written
    try:
        done = subprocess.run(
            [sys.executable, "-m", "skerry", "targets", "list", "--json"], stdout=write, stderr=subprocess.PIPE
        )
    finally:
        os.close(write)
    assert done.returncode == 1 and done.stderr == b""
