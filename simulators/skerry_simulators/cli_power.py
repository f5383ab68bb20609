"""`skerry sim power` and `skerry sim vm`: a device's power cut as its block device sees it, and a whole machine's."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry_simulators.cli_words import Progress, count

if TYPE_CHECKING:
    from skerry_simulators.powercut import Outcome

PLANTED = ("missing-fsync", "missing-folder-fsync", "ledger-normal")
KERNEL = "SKERRY_VM_KERNEL"


def add(commands: Any) -> None:
    """Add the commands."""
    power = commands.add_parser(
        "power",
        help="a device's power cut at block level: images of a recorded ext4, a start and an update on each",
        description="Record the block writes of a device's life on a real ext4, cut images of what a power cut may "
        "leave out of the record, mount each, start the agent's core on it and check. Needs root, FUSE, loop devices "
        "and e2fsprogs.",
    )
    power.add_argument("--images", type=count, default=250, metavar="N", help="how many images (250: one life)")
    power.add_argument("--replay", nargs=2, metavar=("FOLDER", "RECIPE"), help="one image of a kept life again")
    power.set_defaults(command=_power)
    machines = commands.add_parser(
        "vm",
        help="a virtual machine in which a device lives, killed in its midst, and started on what is left",
        description="Let a device live in QEMU (in software) whose disk's writes are logged, kill it without warning, "
        "make the disk anew from the log, start on it and check. Needs QEMU, a kernel with its modules, and e2fsprogs.",
    )
    machines.add_argument("--cuts", type=count, default=10, metavar="N", help="how many kills (10)")
    machines.add_argument(
        "--kernel",
        type=Path,
        default=Path(os.environ.get(KERNEL, "/")),
        metavar="FOLDER",
        help=f"where a kernel's package lies, with boot/ and lib/modules/ ({KERNEL}, else this system's root)",
    )
    machines.set_defaults(command=_machines)
    for each in (power, machines):
        each.add_argument("--seed", type=int, default=1, metavar="S", help="the first life's seed (1)")
        each.add_argument("--jobs", type=count, default=1, metavar="J", help="at the same time, each a process (1)")
        each.add_argument("--bug", choices=PLANTED, default="", help="plant a bug, to see that it is found")
        words = "where a life that broke a promise is kept (skerry-power)"
        each.add_argument("--keep", type=Path, default=Path("skerry-power"), metavar="FOLDER", help=words)
        each.add_argument("--json", action="store_true", help="the outcome as JSON")


def _power(arguments: argparse.Namespace) -> int:
    from skerry_simulators.errors import SimulatorError
    from skerry_simulators.powercut import cut_lives, replay

    try:
        if arguments.replay is not None:
            return _told(arguments, replay(Path(arguments.replay[0]), arguments.replay[1]), "")
        with Progress() as progress:
            found = cut_lives(arguments.images, arguments.seed, progress=progress.of, **_options(arguments))
    except SimulatorError as error:
        return _refused(error)
    return _told(arguments, found, f"{arguments.keep}/{{seed}} {{recipe}}")


def _machines(arguments: argparse.Namespace) -> int:
    from skerry_simulators.errors import SimulatorError
    from skerry_simulators.vmcut import cut_machines

    try:
        with Progress() as progress:
            options = {"kernel": arguments.kernel, "progress": progress.of, **_options(arguments)}
            found = cut_machines(arguments.cuts, arguments.seed, **options)
    except SimulatorError as error:
        return _refused(error)
    return _told(arguments, found, f"{arguments.keep}/{{seed}}-{{recipe}} {{recipe}}")


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"jobs": arguments.jobs, "bug": arguments.bug, "keep": arguments.keep}


def _refused(error: Exception) -> int:
    print(f"skerry: error: {error} ({getattr(error, 'hint', '')})", file=sys.stderr)
    return 1


def _told(arguments: argparse.Namespace, found: Outcome, kept: str) -> int:
    """Print an outcome; `kept`: where a violation's life is, and its recipe."""
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
        return 1 if found.violations else 0
    print(
        f"{found.images} images of {found.lives} devices in {len(found.phases)} phases, {found.repaired} repaired by "
        f"e2fsck, {len(found.violations)} violations"
    )
    for each in found.violations:
        print(f"  seed {each.seed}, {each.recipe}, {each.phase}: {each.message}")
        if kept:
            print(f"    replay: skerry sim power --replay {kept.format(seed=each.seed, recipe=each.recipe)}")
    return 1 if found.violations else 0
