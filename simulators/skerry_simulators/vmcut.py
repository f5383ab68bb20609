"""Cut the power of a whole virtual machine in which a device lives: QEMU, in software, killed without warning.

The guest is a Debian kernel whose first process is the core itself (`vm_guest.py`, `vm_pack.py`). What its disk is
told goes through QEMU's `blklogwrites`, so that the host's page cache, which outlives QEMU, cannot save anything: after
the kill the disk is made anew from the log, with what a flush covered and a part of the rest (`blockcut.py`). The next
machine starts on it, checks it, and lives another life until the next kill. No root is needed.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from skerry_simulators import blocklog, power_chapters, powercut, vm_pack
from skerry_simulators.blockcut import KINDS, Cutter, Recipe
from skerry_simulators.blocklog import Entry, Fact, Mark
from skerry_simulators.errors import SimulatorError
from skerry_simulators.power_check import known
from skerry_simulators.power_fleet import CERTIFICATES
from skerry_simulators.power_life import Life
from skerry_simulators.powercut import BASE, FLEET, LOG, TOLD, Outcome, Violation
from skerry_simulators.vm import CUT, INSTALL, NEW, Kernel, Machine, find_kernel, missing

SERIES_CUTS = 10  # of one device, prepared once
MOST_FACTS = 45  # a cut comes after so many of them at most, and within a moment after
MOMENT_S = 0.05
RECORDED = "recorded"

Task = tuple[Path, Path, Kernel, int, int, str, Path | None]


def cut_machines(
    cuts: int,
    seed: int = 1,
    *,
    jobs: int = 1,
    kernel: Path = Path("/"),
    bug: str = "",
    keep: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Kill machines so often, and start each time on what is left; an image is what one kill left.

    `kernel`: where a kernel's package lies; `bug` and `keep` as for `powercut.cut_lives`.
    Raises SimulatorError where the machine cannot (`vm.missing`), or where a life does not even end undisturbed.
    """
    chosen = find_kernel(kernel)
    if (lack := missing(kernel)) or chosen is None:
        raise SimulatorError(lack, hint=INSTALL)
    series = -(-cuts // SERIES_CUTS)
    share = [cuts // series + (number < cuts % series) for number in range(series)]
    with tempfile.TemporaryDirectory(prefix="skerry-vm-", dir=powercut.memory()) as name:
        first = Path(name, "initrd")
        first.write_bytes(vm_pack.pack(chosen.folder, chosen.version))
        tasks: list[Task] = [
            (Path(name), first, chosen, seed + number, count, bug, keep) for number, count in enumerate(share)
        ]
        found: list[Outcome] = []
        with multiprocessing.get_context("fork").Pool(min(jobs, series), maxtasksperchild=1) as pool:
            for outcome in pool.imap_unordered(_run, tasks):
                found.append(outcome)
                if progress is not None:
                    progress(len(found), series)
    return powercut.together(found)


def _run(task: Task) -> Outcome:
    folder, first, kernel, seed, cuts, bug, keep = task
    work = folder / str(seed)
    work.mkdir()
    try:
        return _Series(work, first, kernel, seed, bug, keep).run(cuts)
    finally:
        shutil.rmtree(work)


class _Series:
    """Cuts of the lives of one device, one machine after the other."""

    def __init__(self, work: Path, first: Path, kernel: Kernel, seed: int, bug: str, keep: Path | None) -> None:
        self._work, self._seed, self._bug, self._keep_in = work, seed, bug, keep
        life = Life(work / "root", work / FLEET, seed, power_chapters.offers(seed), lambda fact: None)
        for bundle in life.bundles.values():
            life.fleet.publish(bundle)
        archive = vm_pack.Archive()
        for path in sorted((work / FLEET).rglob("*")):
            if path.is_file():
                mode = path.stat().st_mode & 0o777
                archive.add(f"{FLEET}/{path.relative_to(work / FLEET)}", path.read_bytes(), mode)
        self._machine = Machine(work, first.read_bytes() + archive.close(), kernel)
        self._certificates: list[str] = []
        self._violations: list[Violation] = []
        self._phases: Counter[str] = Counter()
        self._recipe = Recipe(0, KINDS[0])

    def run(self, cuts: int) -> Outcome:
        """Prepare a device; then live, cut, start and check, so often."""
        chance = random.Random(f"{self._seed}/vm")
        powercut.make_disk(self._work / NEW)
        (self._work / CUT).write_bytes(bytes(1 << 20))
        said = self._boot(lambda facts: "prepared" in facts[-1], prepare=True)
        if wrong := said[-1]["wrong"]:
            raise SimulatorError(f"the device cannot be prepared: {wrong}", hint="without any cut: a defect")
        self._certificates = [fact["certificate"] for fact in said if "certificate" in fact]
        shutil.copy(self._work / NEW, self._work / BASE)
        facts: list[Fact] = []
        for cut in range(cuts):
            shutil.copy(self._work / BASE, self._work / NEW)
            begin, count = chance.randrange(len(power_chapters.NAMES)), chance.randrange(1, MOST_FACTS)
            chapters = power_chapters.order(self._seed)[begin:]
            said = self._boot(_after(count), chance.uniform(0, MOMENT_S), facts=facts, chapters=chapters, cut=cut)
            self._judge(facts, said)
            facts = self._lived(said)
            self._cut(facts, chance.choice(KINDS), cut)
        self._judge(facts, self._boot(lambda said: "verdict" in said[-1], facts=facts))
        return Outcome(cuts, 1, 0, dict(self._phases), tuple(self._violations))

    def _boot(
        self,
        enough: Callable[[list[Fact]], bool],
        moment_s: float = 0.0,
        *,
        prepare: bool = False,
        facts: list[Fact] | None = None,
        chapters: list[str] | None = None,
        cut: int = 0,
    ) -> list[Fact]:
        told = {"seed": self._seed, "bug": self._bug, "certificates": self._certificates, "prepare": prepare}
        job = {**told, "facts": facts or [], "chapters": chapters or [], "cut": cut}
        return self._machine.run(job, enough, moment_s)

    def _judge(self, facts: list[Fact], said: list[Fact]) -> None:
        """Take note of what the check of the last cut came to."""
        if not facts:
            return
        phase, verdict = known(facts).phase, next(fact["verdict"] for fact in said if "verdict" in fact)
        self._phases[phase] += 1
        if not verdict:
            return
        recipe = str(self._recipe)
        self._violations.append(Violation(self._seed, recipe, phase, verdict))
        if self._keep_in is not None:
            folder = self._keep_in / f"{self._seed}-{recipe}"
            shutil.copytree(self._work / FLEET, folder / FLEET, dirs_exist_ok=True)
            for each in (BASE, TOLD):
                shutil.copy(self._work / each, folder / each)
            shutil.copy(self._work / RECORDED, folder / LOG)

    def _lived(self, said: list[Fact]) -> list[Fact]:
        """Return the facts of the life that was cut."""
        if wrong := next((fact["ended"] for fact in said if "ended" in fact), ""):
            words = f"the life of seed {self._seed} does not end well: {wrong}"
            raise SimulatorError(words, hint="without any cut: a defect")
        verdict = max((at for at, fact in enumerate(said) if "verdict" in fact), default=-1)
        return said[verdict + 1 :]

    def _cut(self, facts: list[Fact], kind: str, cut: int) -> None:
        """Make the disk that the kill left, and note what it is made of, in the form of a recorded life."""
        log: list[Entry] = [Mark(piece) for fact in facts for piece in blocklog.marks(fact)]
        log += blocklog.load(self._work / LOG)
        self._recipe = Recipe(len(log), kind, cut)
        (self._work / CUT).write_bytes(Cutter((self._work / BASE).read_bytes(), log).image(self._recipe))
        with (self._work / RECORDED).open("wb") as file:
            blocklog.save(log, file)
        (self._work / TOLD).write_text(json.dumps({"seed": self._seed, "bug": self._bug, "exact": False}))
        certificates = self._certificates + [fact["certificate"] for fact in facts if "certificate" in fact]
        (self._work / FLEET / CERTIFICATES).write_text("".join(certificates))


def _after(count: int) -> Callable[[list[Fact]], bool]:
    """Return whether a life has told so much since it began, or came to its end."""

    def enough(facts: list[Fact]) -> bool:
        began = next((at for at, fact in enumerate(facts) if "began" in fact), None)
        return "ended" in facts[-1] or (began is not None and len(facts) - began > count)

    return enough
