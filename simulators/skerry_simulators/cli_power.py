"""`skerry sim power`: a device's power cut as its block device sees it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from skerry_simulators.cli_words import Progress, count

PLANTED = ("missing-fsync", "missing-folder-fsync", "ledger-normal")


def add(commands: Any) -> None:
    """Add the command."""
    power = commands.add_parser(
        "power",
        help="a device's power cut at block level: images of a recorded ext4, a start and an update on each",
        description="Record the block writes of a device's life on a real ext4, cut images of what a power cut may "
        "leave out of the record, mount each, start the agent's core on it and check. Needs root, FUSE, loop devices "
        "and e2fsprogs.",
    )
    power.add_argument("--images", type=count, default=250, metavar="N", help="how many images (250: one life)")
    power.add_argument("--seed", type=int, default=1, metavar="S", help="the first life's seed (1)")
    power.add_argument("--jobs", type=count, default=1, metavar="J", help="lives at the same time, each a process (1)")
    power.add_argument("--bug", choices=PLANTED, default="", help="plant a bug, to see that it is found")
    power.add_argument(
        "--keep",
        type=Path,
        default=Path("skerry-power"),
        metavar="FOLDER",
        help="where a life that broke a promise is kept (skerry-power)",
    )
    power.add_argument("--replay", nargs=2, metavar=("FOLDER", "RECIPE"), help="one image of a kept life again")
    power.add_argument("--json", action="store_true", help="the outcome as JSON")
    power.set_defaults(command=_power)


def _power(arguments: argparse.Namespace) -> int:
    from skerry_simulators.errors import SimulatorError
    from skerry_simulators.powercut import cut_lives, replay

    try:
        if arguments.replay is not None:
            found = replay(Path(arguments.replay[0]), arguments.replay[1])
        else:
            with Progress() as progress:
                found = cut_lives(
                    arguments.images,
                    arguments.seed,
                    jobs=arguments.jobs,
                    bug=arguments.bug,
                    keep=arguments.keep,
                    progress=progress.of,
                )
    except SimulatorError as error:
        print(f"skerry: error: {error} ({error.hint})", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(
            f"{found.images} images of {found.lives} lives in {len(found.phases)} phases, {found.repaired} repaired by "
            f"e2fsck, {len(found.violations)} violations"
        )
        for each in found.violations:
            print(f"  seed {each.seed}, {each.recipe}, {each.phase}: {each.message}")
            if arguments.replay is None:
                print(f"    replay: skerry sim power --replay {arguments.keep / str(each.seed)} {each.recipe}")
    return 1 if found.violations else 0
