"""What the commands of `skerry sim` share: a line of progress, and numbers on the command line."""

from __future__ import annotations

import argparse
import sys


class Progress:
    """A line of progress on a terminal, nothing elsewhere."""

    def __enter__(self) -> Progress:
        self._shown = sys.stderr.isatty()
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()

    def share(self, share: float) -> None:
        """Show a share from 0 to 1."""
        if self._shown:
            print(f"\r{share:6.1%} done", end="", file=sys.stderr, flush=True)

    def of(self, done: int, count: int) -> None:
        """Show so many of so many."""
        self.share(done / count)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r" + " " * 20 + "\r", end="", file=sys.stderr, flush=True)


def count(text: str) -> int:
    """Return a number from 1 upward."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
