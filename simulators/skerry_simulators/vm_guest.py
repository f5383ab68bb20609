"""Inside the virtual machine: the first process, which looks at what the last cut left, and lives until the next.

Three disks: what was cut (`vda`), a device that was prepared (`vdb`, whose writes the host records), and one on which
facts go out (`vdc`): each sector a length of two bytes and a piece of a mark, written through.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from skerry_simulators import blocklog, mounts, power_chapters
from skerry_simulators.blocklog import SECTOR, Fact
from skerry_simulators.children import run
from skerry_simulators.errors import SimulatorError
from skerry_simulators.power_bugs import disturber, store, sync
from skerry_simulators.power_check import check, known
from skerry_simulators.power_life import LAST, Life
from skerry_simulators.vm_pack import JOB, MODULES

CUT, NEW, FACTS = "/dev/vda", "/dev/vdb", "/dev/vdc"
FOLDER, FLEET = Path("/mnt"), Path("/fleet")
_INIT_MODULE, _RB_POWER_OFF = 175, 0x4321FEDC
_DISKS_S = 20.0


def main() -> None:
    """Do the job, tell what it came to, and switch off (if nobody did before)."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        mounts.mount("dev", Path("/dev"), "devtmpfs")
        mounts.mount("proc", Path("/proc"), "proc")
        for each in sorted(Path("/", MODULES).iterdir()):
            data = each.read_bytes()
            libc.syscall(_INIT_MODULE, data, ctypes.c_ulong(len(data)), b"")
        end_s = time.monotonic() + _DISKS_S
        while not Path(FACTS).exists() and time.monotonic() < end_s:
            time.sleep(0.02)
        _work(json.loads(Path("/", JOB).read_text()), Teller(FACTS))
    except BaseException:  # noqa: BLE001  # the first process must not end without a word
        traceback.print_exc()
    libc.reboot(_RB_POWER_OFF)


class Teller:
    """Writes facts to a disk, each durable before the next thing happens."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_SYNC)
        self.muted = False

    def __call__(self, fact: Fact) -> None:
        """Tell a fact."""
        if self.muted:
            return
        for piece in blocklog.marks(fact):
            sector = (len(piece).to_bytes(2, "little") + piece).ljust(SECTOR, b"\0")
            os.write(self._file, sector)  # forked children share the place


def told(data: bytes) -> list[Fact]:
    """Return the facts that a disk holds, up to the last whole one."""
    log: list[blocklog.Entry] = []
    for at in range(0, len(data) - SECTOR + 1, SECTOR):
        size = int.from_bytes(data[at : at + 2], "little")
        if not size:
            break
        log.append(blocklog.Mark(data[at + 2 : at + 2 + size]))
    return [fact for _, fact in blocklog.facts(log)]


def _work(job: dict[str, Any], tell: Teller) -> None:
    seed = job["seed"]
    life = Life(FOLDER / "root", FLEET, seed, power_chapters.offers(seed), tell, store=store(job["bug"]))
    life.fleet.lasting = False
    life.fleet.listed.update(each.id for each in life.bundles.values())
    life.fleet.certificates = list(job["certificates"])
    life.fleet.issued = lambda pem: tell({"certificate": pem})
    if job["prepare"]:
        wrong = _mounted(NEW, partial(_prepare, life))
        tell({"prepared": seed, "wrong": wrong})
        return
    if job["facts"]:
        tell({"verdict": _mounted(CUT, partial(_check, life, job["facts"], tell), repairing=True)})
    if job["chapters"]:
        tell({"ended": _mounted(NEW, partial(_live, life, job["chapters"], job["cut"]))})


def _mounted(device: str, action: Callable[[], str], *, repairing: bool = False) -> str:
    """Do something with a disk mounted, in a process of its own."""
    try:
        mounts.mount(device, FOLDER, "ext4")
    except OSError as error:
        if repairing:
            return f"unmountable: {error}"
        raise
    try:
        return run(action)
    finally:
        mounts.unmount(FOLDER)


def _check(life: Life, facts: list[Fact], tell: Teller) -> str:
    tell.muted = True
    life.fleet.certificates += [fact["certificate"] for fact in facts if "certificate" in fact]
    return check(life, known(facts), None)


def _prepare(life: Life) -> str:
    life.root.mkdir()
    life.prepare()
    sync(life.root)
    return ""


def _live(life: Life, chapters: list[str], cut: int) -> str:
    life.start()
    life.run(5)
    life.disturb = disturber(life.root, random.Random(f"{life.seed}/{cut}/disturb"))
    life.note(began=cut)
    power_chapters.live(life, chapters)
    return ""


def rehearse(work: Path) -> None:
    """Do all of that without a machine, so that everything is loaded that it needs."""
    facts: list[Fact] = []
    (work / "root").mkdir()
    seed = 1
    life = Life(work / "root", work / "fleet", seed, power_chapters.offers(seed), facts.append, store=store(""))
    life.prepare()
    life.start()
    life.disturb = disturber(life.root, random.Random(seed))
    power_chapters.live(life, power_chapters.order(seed))
    life.fleet.publish(life.bundles[LAST])
    life.stop()
    if wrong := run(lambda: "") or check(life, known(facts), None):
        raise SimulatorError(wrong, hint="without any cut: a defect")


if __name__ == "__main__":
    main()
