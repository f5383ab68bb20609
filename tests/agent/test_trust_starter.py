"""The trust child and the process that started it: one that has ended is not served, and process 1 may well live."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def _asked(folder: Path, starter: int, *before: str) -> subprocess.CompletedProcess[bytes]:
    words = [*before, sys.executable, "-m", "skerry_agent.trust", str(folder), str(starter)]
    return subprocess.run(words, input=b"{}\n", capture_output=True, check=False)


def test_a_child_whose_starter_has_ended_does_nothing(tmp_path: Path) -> None:
    assert b"error" in _asked(tmp_path, os.getpid()).stdout
    left = _asked(tmp_path, 1)
    assert (left.returncode, left.stdout) == (1, b"")


@pytest.mark.root
def test_a_child_of_the_first_process_of_a_container_answers(tmp_path: Path) -> None:
    """There process 1 is the agent: a child of it is no orphan."""
    first = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    alone = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", first]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this kernel allows no process namespace here")
    assert b"error" in _asked(tmp_path, 1, *alone).stdout
