"""Cut the power of a device at every kind of moment of its life, as its block device sees it.

A real device core lives through all its kinds of updates (`power_chapters.py`) on a real ext4 whose block writes and
flushes are recorded (`blockfuse.py`). Images of what the device may have kept are cut out of the record
(`blockcut.py`), each is mounted (ext4 replays its journal), and the real core starts on it: nothing promised may be
lost, nothing torn may be believed, and the next update must succeed (`power_check.py`).

The same seed gives the same life and the same choice of moments. The blocks themselves depend on the kernel and its
timers, so what broke a promise is kept as it was recorded: from that, a recipe makes the image again to the byte.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skerry_simulators import blockfuse, blocklog, mounts, power_chapters
from skerry_simulators.blockcut import Cutter, Recipe, recipe, recipes
from skerry_simulators.blocklog import Entry, Fact
from skerry_simulators.children import run
from skerry_simulators.errors import SimulatorError
from skerry_simulators.power_bugs import disturber, hasty, store, sync
from skerry_simulators.power_check import check, known
from skerry_simulators.power_life import LAST, Life

LIFE_IMAGES = 250  # out of one life: more of them come from more lives
DISK_BYTES = 24 << 20
OPTIONS = ("commit=5", "commit=1,noauto_da_alloc,data=writeback")  # the usual, and the least that ext4 promises
_BACKUP = "2048"  # where the second superblock lies: in so small a disk there is one only where groups are small, too
_MKFS = (
    "-q",
    "-F",
    "-b",
    "4096",
    "-g",
    _BACKUP,
    "-J",
    "size=4",
    "-E",
    "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
)
_UNCORRECTED = 4  # e2fsck's exit code, from which on the file system is not sound
BASE, LOG, FLEET, TOLD = "base.img", "log", "fleet", "life.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: the life, the image's recipe, where in its life the device was, and what is wrong."""

    seed: int
    recipe: str
    phase: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What cutting came to. `phases`: images by chapter and stage; `repaired`: images that needed e2fsck first."""

    images: int
    lives: int
    repaired: int
    phases: dict[str, int]
    violations: tuple[Violation, ...]


def missing() -> str:
    """Return what this machine lacks for recording; empty: nothing."""
    if lack := mounts.missing():
        return lack
    return "" if tool("mkfs.ext4") and tool("e2fsck") else "block images need mkfs.ext4 and e2fsck (e2fsprogs)"


def cut_lives(
    images: int,
    seed: int = 1,
    *,
    jobs: int = 1,
    bug: str = "",
    keep: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Cut so many different images out of the lives of `seed`, `seed + 1` and so on, and check each.

    `bug`: one of power_bugs.BUGS; `keep`: where a life that broke a promise is kept.
    Raises SimulatorError where the machine cannot (`missing`), or where a life does not even end undisturbed.
    """
    if lack := missing():
        raise SimulatorError(lack, hint="run as root on Linux with FUSE, loop devices and e2fsprogs")
    lives = -(-images // LIFE_IMAGES)
    share = [images // lives + (number < images % lives) for number in range(lives)]
    tasks = [(seed + number, count, bug, str(keep or "")) for number, count in enumerate(share)]
    found: list[Outcome] = []
    with multiprocessing.get_context("fork").Pool(min(jobs, lives), mounts.own_namespace, maxtasksperchild=8) as pool:
        for outcome in pool.imap_unordered(_life, tasks):
            found.append(outcome)
            if progress is not None:
                progress(len(found), lives)
    return together(found)


def together(found: list[Outcome]) -> Outcome:
    """Return what several outcomes come to."""
    violations = sorted((each for outcome in found for each in outcome.violations), key=lambda each: each.seed)
    phases = sum((Counter(outcome.phases) for outcome in found), Counter[str]())
    images, lives, repaired = (sum(getattr(each, name) for each in found) for name in ("images", "lives", "repaired"))
    return Outcome(images, lives, repaired, dict(sorted(phases.items())), tuple(violations))


def replay(folder: Path, text: str) -> Outcome:
    """Make one image of a kept life again, and check it."""
    if lack := missing():
        raise SimulatorError(lack, hint="run as root on Linux with FUSE, loop devices and e2fsprogs")
    mounts.own_namespace()
    with tempfile.TemporaryDirectory(prefix="skerry-power-", dir=memory()) as name:
        work = Path(name)
        shutil.copytree(folder / FLEET, work / FLEET)
        for each in (BASE, LOG, TOLD):
            shutil.copy(folder / each, work / each)
        return Recorded(work).examine([recipe(text)])


def _life(task: tuple[int, int, str, str]) -> Outcome:
    seed, count, bug, keep = task
    with tempfile.TemporaryDirectory(prefix="skerry-power-", dir=memory()) as name:
        work = Path(name)
        record(work, seed, bug)
        recorded = Recorded(work)
        outcome = recorded.examine(recipes(recorded.cutter, recorded.log, count, seed, recorded.start))
        if outcome.violations and keep:
            for each in (BASE, LOG, TOLD, FLEET):
                target = Path(keep, str(seed), each)
                target.parent.mkdir(parents=True, exist_ok=True)
                if (work / each).is_dir():
                    shutil.copytree(work / each, target, dirs_exist_ok=True)
                else:
                    shutil.copy(work / each, target)
        return outcome


# Recording.


def record(work: Path, seed: int, bug: str = "") -> None:
    """Let a device live on a recorded disk; leaves the disk's beginning, the log and the fleet's folder in `work`.

    Raises:
        SimulatorError: the life does not end as it must.
    """
    base, disk, folder = work / BASE, work / "disk", work / "mnt"
    for each in (disk, folder):
        each.mkdir()
    make_disk(base)
    (work / TOLD).write_text(json.dumps({"seed": seed, "bug": bug, "options": OPTIONS[seed % len(OPTIONS)]}))
    recorder = blockfuse.serve(base.read_bytes(), disk, work / LOG)
    try:
        loop = mounts.Loop(disk / blockfuse.DISK)
        try:
            mounts.mount(loop.path, folder, "ext4", OPTIONS[seed % len(OPTIONS)])
            try:
                wrong = run(partial(_lived, work, folder, seed, bug))
            finally:
                mounts.unmount(folder)
        finally:
            loop.close()
    finally:
        mounts.unmount(disk)
        os.waitpid(recorder, 0)
    if wrong:
        raise SimulatorError(f"the life of seed {seed} does not end well: {wrong}", hint="without any cut: a defect")


def make_disk(path: Path) -> None:
    """Make an empty ext4 in a file."""
    path.touch()
    os.truncate(path, DISK_BYTES)
    subprocess.run([tool("mkfs.ext4"), *_MKFS, str(path)], check=True, stdout=subprocess.DEVNULL)


def repair(path: Path) -> None:
    """Repair an ext4 in a file, as far as that can be done: by its second superblock where the first is torn."""
    for where in ((), ("-b", _BACKUP, "-B", "4096")):
        done = subprocess.run([tool("e2fsck"), "-fy", *where, str(path)], check=False, capture_output=True)
        if done.returncode < _UNCORRECTED:
            return


def _lived(work: Path, folder: Path, seed: int, bug: str) -> str:
    """Live, as a process of its own: what it holds open must not keep the folder mounted."""
    mark = os.open(work / "disk" / blockfuse.MARK, os.O_WRONLY)

    def note(fact: Fact) -> None:
        for piece in blocklog.marks(fact):
            os.pwrite(mark, piece, 0)

    root = folder / "root"
    root.mkdir()
    life = Life(root, work / FLEET, seed, power_chapters.offers(seed), note, store=store(bug))
    life.prepare()
    sync(root)  # the maker does not cut the power
    life.note(began=seed)
    life.disturb = disturber(root, random.Random(f"{seed}/disturb"))
    life.start()
    life.run(5)
    power_chapters.live(life, power_chapters.order(seed))
    life.fleet.publish(life.bundles[LAST])
    return ""


# Checking.


class Recorded:
    """A recorded life, and how to look at its images."""

    def __init__(self, work: Path) -> None:
        self._work, self._folder = work, work / "image"
        self._folder.mkdir(exist_ok=True)
        told = json.loads((work / TOLD).read_text())
        self.seed: int = told["seed"]
        self._exact: bool = told.get("exact", True)  # whether the transaction that was under way is known
        self.log: list[Entry] = blocklog.load(work / LOG)
        self.cutter = Cutter((work / BASE).read_bytes(), self.log)
        self._facts = list(blocklog.facts(self.log))
        self.start = next((position for position, fact in self._facts if "began" in fact), 0)
        offers = power_chapters.offers(self.seed)
        self._life = Life(self._folder / "root", work / FLEET, self.seed, offers, _ignore, store=hasty)
        self._life.fleet.lasting = False
        self._life.fleet.listed.update(each.id for each in self._life.bundles.values())
        self._life.fleet.office.repository.refresh_timestamp(self._life.clock.wall_s())
        self.repaired = 0

    def examine(self, wanted: list[Recipe]) -> Outcome:
        """Make each image and check it."""
        phases: Counter[str] = Counter()
        violations = []
        for each in wanted:
            before = known(fact for position, fact in self._facts if position < each.position)
            phases[before.phase] += 1
            if wrong := self._image(each):
                violations.append(Violation(self.seed, str(each), before.phase, wrong))
        return Outcome(len(wanted), 1, self.repaired, dict(phases), tuple(violations))

    def _image(self, wanted: Recipe) -> str:
        image = self._work / "cut.img"
        image.write_bytes(self.cutter.image(wanted))
        try:
            self._mount(image)
        except OSError:
            self.repaired += 1  # as every system does at boot
            repair(image)
            try:
                self._mount(image)
            except OSError as error:
                return f"the file system is lost: {error}"
        try:
            return run(partial(self._checked, wanted))
        finally:
            mounts.unmount(self._folder)

    def _mount(self, image: Path) -> None:
        loop = mounts.Loop(image)
        try:
            mounts.mount(loop.path, self._folder, "ext4")
        finally:
            loop.close()

    def _checked(self, wanted: Recipe) -> str:
        before = known(fact for position, fact in self._facts if position < wanted.position)
        later = (fact["state"] for position, fact in self._facts if position >= wanted.position and "state" in fact)
        return check(self._life, before, next(later, before.state) if self._exact else None)


def _ignore(_: Fact) -> None:
    """Nobody listens to a device that is only looked at."""


def memory() -> str | None:
    """Return a folder in memory, where there is one: nothing here needs to last."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def tool(name: str) -> str:
    """Return a program's path, also where only root finds it; empty where it is not."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/sbin:/usr/sbin") or ""
