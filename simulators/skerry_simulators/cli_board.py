"""`skerry sim board`: an emulated board of the catalogue, with the agent that ships on it, through an update's good and
bad days.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_simulators import board_report
from skerry_simulators.board_report import Report, Say
from skerry_simulators.errors import SimulatorError
from skerry_targets import catalogue
from skerry_targets.errors import TargetError
from skerry_targets.profile import Profile

LINUX = ("aarch64", "armv7l", "riscv64")  # what userlands are made for (boards/recipes.py)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    board = commands.add_parser(
        "board",
        help="an emulated board of the catalogue with the real agent: an update, refusals, a rollback, a power cut",
        description="Start a board of `skerry targets list` in its emulator, with the agent that ships on it, and put "
        "it through updates, refusals, a rollback and a power cut. Times are the emulator's, not the board's.",
    )
    board.add_argument("target", nargs="+", metavar="NAME", help="ids from `skerry targets list`, or TOML files")
    board.add_argument("--from-nothing", action="store_true", help="fetch all of a Linux board anew, to time it")
    board.add_argument("--keep", action="store_true", help="leave Linux boards and their fleet running until Ctrl-C")
    board.add_argument("--root", type=Path, metavar="DIR", help="keep a Linux board's run and logs in this new folder")
    board.add_argument("--docker", action="store_true", help="Linux boards in containers, from the agent's image")
    board.add_argument("--engine", metavar="URL", help="the container engine (DOCKER_HOST, or the usual socket)")
    board.add_argument("--json", action="store_true", help="the reports as JSON, a line a board")
    board.set_defaults(command=_board)


def _board(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        boards = [catalogue.get(each) for each in arguments.target]
        runs = [_container if arguments.docker else _runner(each) for each in boards]
        with contextlib.ExitStack() as left:
            options = Options(arguments.from_nothing, arguments.keep, arguments.root, left, arguments.engine)
            held = [_told(run(board, _say, options), arguments) for board, run in zip(boards, runs, strict=True)]
            if arguments.keep:
                print("running until Ctrl-C", file=sys.stderr, flush=True)
                signal.pause()
    except (SimulatorError, TargetError) as error:
        _say("")
        print(f"skerry: error: {error}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if all(held) else 1


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What was asked besides the boards; `left` ends what a board leaves running."""

    from_nothing: bool
    keep: bool
    root: Path | None
    left: contextlib.ExitStack
    engine: str | None = None


Runner = Callable[[Profile, Say, Options], Report]


def kind(profile: Profile) -> str:
    """Return what puts such a board through its days: a key of `_RUNNERS`, "" where nothing emulated does."""
    if profile.abi.os == "none" and profile.emulator.kind == "qemu-system":
        return "microcontroller"
    if profile.abi.os == "linux" and profile.emulator.kind == "qemu-user" and profile.abi.machine in LINUX:
        return "linux"
    return ""


def _microcontroller(profile: Profile, say: Say, options: Options) -> Report:
    from skerry_simulators import boards_mcu

    return boards_mcu.run(profile, say)


def _linux(profile: Profile, say: Say, options: Options) -> Report:
    from skerry_simulators.boards import running

    return running.run(
        profile, _line, options.root, options.left if options.keep else None, afresh=options.from_nothing
    )


def _container(profile: Profile, say: Say, options: Options) -> Report:
    from skerry_simulators.images import board

    return board.run(profile, _line, options.root, options.engine)


_RUNNERS: dict[str, Runner] = {"microcontroller": _microcontroller, "linux": _linux}


def _runner(profile: Profile) -> Runner:
    found = _RUNNERS.get(kind(profile))
    if found is None:
        raise SimulatorError(
            f"no emulator here runs an agent on {profile.id} ({profile.abi.os}, {profile.abi.machine})",
            hint=f"the nearest that one does for: {', '.join(nearest(profile)) or 'none'}",
        )
    return found


def nearest(profile: Profile) -> list[str]:
    """Return up to three boards with an agent in an emulator: of the same family first, then system, then processor."""
    others = [each for each in catalogue.load_all() if each.id != profile.id and kind(each)]

    def apart(other: Profile) -> tuple[bool, bool, bool, bool, int]:
        shared = len(set(other.cpu.features) ^ set(profile.cpu.features))
        return (
            other.family != profile.family,
            other.abi.os != profile.abi.os,
            other.abi.machine != profile.abi.machine,
            other.abi.elf_class != profile.abi.elf_class,
            shared,
        )

    return [each.id for each in sorted(others, key=apart)[:3]]


def _told(report: Report, arguments: argparse.Namespace) -> bool:
    _say("")
    print(json.dumps(board_report.plain(report)) if arguments.json else board_report.table(report), flush=True)
    return report.held


def _line(words: str) -> None:
    """Show a step of a board that takes minutes: on a terminal in place of the one before, else a line each."""
    if sys.stderr.isatty():
        _say(words)
    else:
        print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def _say(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)
