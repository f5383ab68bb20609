"""What an emulated board was put through, step by step, and what each step showed: what every kind of board returns."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

Say = Callable[[str], None]


@dataclasses.dataclass(slots=True)
class Step:
    """One thing tried: whether it went as it must, in words what was seen, milliseconds (of the emulator), and bytes of
    flash and memory of what it was about, where it was about a model.
    """

    name: str
    held: bool = False
    seen: str = ""
    ms: float = 0.0
    flash_bytes: int | None = None
    ram_bytes: int | None = None


@dataclasses.dataclass(slots=True)
class Report:
    """A board by its profile's id, what ran it, and the steps in their order."""

    target: str
    emulator: str
    steps: list[Step] = dataclasses.field(default_factory=list)
    say: dataclasses.InitVar[Say] = lambda words: None
    _say: Say = dataclasses.field(init=False, repr=False)

    def __post_init__(self, say: Say) -> None:
        """Keep who hears of each step as it begins."""
        self._say = say

    @property
    def held(self) -> bool:
        """Whether every step went as it must, and there was one."""
        return bool(self.steps) and all(each.held for each in self.steps)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Take the time of a step and keep it; whoever takes it sets `held` and `seen`."""
        self._say(f"{self.target}: {name}")
        taken = Step(name)
        self.steps.append(taken)
        began = time.monotonic()
        try:
            yield taken
        finally:
            taken.ms = round((time.monotonic() - began) * 1000, 1)


def plain(report: Report) -> dict[str, object]:
    """Return a report for JSON."""
    return {
        "target": report.target,
        "held": report.held,
        "emulator": report.emulator,
        "steps": [dataclasses.asdict(each) for each in report.steps],
    }


def table(report: Report) -> str:
    """Return a report as a table for a terminal."""
    rows = [("step", "result", "flash", "RAM", "ms", "what was seen")]
    for each in report.steps:
        sizes = _kilobytes(each.flash_bytes), _kilobytes(each.ram_bytes)
        rows.append((each.name, "ok" if each.held else "WRONG", *sizes, f"{each.ms:.0f}", each.seen))
    if not any(each.flash_bytes or each.ram_bytes for each in report.steps):
        rows = [(name, result, "", "", ms, seen) for name, result, _, _, ms, seen in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [f"{report.target}, emulated by {report.emulator}"]
    for row in rows:
        words = [
            text.rjust(width) if column in (2, 3, 4) else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
            if width
        ]
        lines.append("  ".join(words).rstrip())
    return "\n".join(lines)


def _kilobytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1024:.1f} kB"
