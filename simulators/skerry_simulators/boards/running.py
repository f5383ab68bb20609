"""One run of an emulated Linux board, in a folder that stays or goes."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from skerry_simulators.board_report import Report, Say
from skerry_simulators.boards import userland
from skerry_simulators.boards.journey import Journey
from skerry_simulators.errors import SimulatorError
from skerry_targets.profile import Profile


def run(
    profile: Profile,
    say: Say,
    root: Path | None = None,
    left: contextlib.ExitStack | None = None,
    *,
    afresh: bool = False,
) -> Report:
    """Put a board through its life, and return what came of each step.

    Args:
        profile: the board.
        say: hears of each step as it begins.
        root: a new folder to keep everything of the run in; None: a temporary one.
        left: what ends the run's processes later; None: they are ended at once.
        afresh: fetch and make everything anew, whatever was kept.

    Raises:
        SimulatorError: the board has no emulator or userland here, something is missing, or the folder is not empty.
    """
    with contextlib.ExitStack() as own:
        folder = _folder(root, profile, own if left is None else left)
        cache = folder / "cache" if afresh else userland.cache()
        journey = Journey(profile, folder, cache, say, afresh=afresh)
        (own if left is None else left).callback(journey.close)
        report = journey.play()
        if left is not None and (folder / "fleet" / "admin.key").exists():
            print(f"\n{profile.id}: dashboard {journey.site.street.fleet_url}", file=sys.stderr)
            print(f"{profile.id}: key {journey.site.street.key}", file=sys.stderr, flush=True)
        return report


def _folder(root: Path | None, profile: Profile, ends: contextlib.ExitStack) -> Path:
    if root is None:
        made = Path(tempfile.mkdtemp(prefix="skerry-board-"))
        ends.callback(shutil.rmtree, made, ignore_errors=True)
        return made
    folder = root.absolute() / profile.id
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise SimulatorError(f"{folder}: {error.strerror}", hint="give a new folder that can be made") from error
    return folder
