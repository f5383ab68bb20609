"""Where reports go: to a terminal in whatever letters it knows, or to a file."""

from __future__ import annotations

from pathlib import Path

from skerry_compiler import files
from skerry_compiler.reports import terminal


def put(lines: str) -> None:
    """Print lines."""
    try:
        print(lines)
    except UnicodeEncodeError:  # an old terminal or a pipe without UTF-8
        print(terminal.plain(lines))


def save(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        CompileError: it cannot be written there.
    """
    with files.replaced(path) as file:
        file.write(page.encode())
