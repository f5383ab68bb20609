"""Start an emulator, give it rows, and take its answers or say in words why there are none."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from skerry_compiler.errors import CompileError

TIME_LIMIT_S = 60


def run(
    command: list[str], rows: bytes, folder: Path, environment: Mapping[str, str], faults: Mapping[int, str]
) -> bytes:
    """Return what a program wrote.

    Args:
        command: the emulator and the program.
        rows: its input.
        folder: where it runs.
        environment: all of it.
        faults: what its exit codes mean.

    Raises:
        CompileError: it does not start, ends with an error, or takes too long.
    """
    try:
        done = subprocess.run(
            command, input=rows, capture_output=True, timeout=TIME_LIMIT_S, env=dict(environment), cwd=folder
        )
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"the emulator took more than {TIME_LIMIT_S} s") from error
    except OSError as error:
        raise CompileError(f"the emulator does not start: {error.strerror}") from error
    if done.returncode in faults:
        raise CompileError(f"the emulated program does not load: {faults[done.returncode]}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        words = f": {said[-1][:200]}" if said else ""
        raise CompileError(f"the emulated program ended with {done.returncode}{words}")
    return done.stdout
