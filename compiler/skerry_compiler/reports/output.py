"""Where reports go: to a terminal in whatever letters it knows, or to a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from skerry_compiler import files
from skerry_compiler.errors import CompileError
from skerry_compiler.reports import terminal


def put(lines: str) -> None:
    """Print lines.

    Raises:
        CompileError: they cannot be written.
    """
    try:
        print(lines, flush=True)
    except UnicodeEncodeError:  # an old terminal or a pipe without UTF-8
        print(terminal.plain(lines), flush=True)
    except BrokenPipeError:  # the reader has seen enough
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it ends
        raise CompileError(f"cannot write the result: {error.strerror}") from error


def save(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        CompileError: it cannot be written there.
    """
    with files.replaced(path) as file:
        file.write(page.encode())
