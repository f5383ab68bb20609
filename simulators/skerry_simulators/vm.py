"""One virtual machine: QEMU in software, with a disk that was cut, a new one whose writes are logged, one for facts.

What QEMU has written when it is killed stays with the host; that is why the new disk is not believed but its log.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_simulators import powercut, vm_pack
from skerry_simulators.blocklog import Fact
from skerry_simulators.errors import SimulatorError
from skerry_simulators.powercut import LOG
from skerry_simulators.vm_guest import told

KERNEL = "SKERRY_VM_KERNEL"  # the environment's name for the folder where a kernel's package lies
NEW, CUT, FACTS = "new.img", "cut.img", "facts"
PATIENCE_S = 600.0
MEMORY_MB = 400
INSTALL = f"apt install qemu-system-x86; unpack a kernel's package and name its folder: --kernel, {KERNEL}"
_QEMU = "qemu-system-x86_64"
_FACTS_BYTES, _LOG_BYTES = 8 << 20, 1 << 30  # sparse
_POLL_S, _STARTS = 0.005, 3
_ARGUMENTS = (
    *("-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(MEMORY_MB), "-nodefaults", "-no-user-config"),
    *("-no-reboot", "-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci"),
)
_COMMAND_LINE = (
    f"console=ttyS0 quiet panic=-1 mitigations=off no_timer_check rdinit=/{vm_pack.PYTHON} "
    f"LD_LIBRARY_PATH=/{vm_pack.LIBRARIES} PYTHONHOME=/{vm_pack.SITE} PYTHONPATH=/{vm_pack.SITE} "
    "PYTHONDONTWRITEBYTECODE=1 -- -S -m skerry_simulators.vm_guest"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's image, the folder that its package lies in, and its version."""

    image: Path
    folder: Path
    version: str


def find_kernel(folder: Path) -> Kernel | None:
    """Return the newest kernel with modules below a folder: a system's root, or an unpacked package."""
    found = []
    for image in (folder / "boot").glob("vmlinuz-*"):
        version = image.name.removeprefix("vmlinuz-")
        if (folder / "lib/modules" / version / "kernel").is_dir():
            numbers = [int(each) for each in re.findall(r"\d+", version)]
            found.append((numbers, Kernel(image, folder, version)))
    return max(found, key=lambda each: each[0])[1] if found else None


def missing(folder: Path) -> str:
    """Return what this machine lacks; empty: nothing."""
    if shutil.which(_QEMU) is None:
        return f"virtual machines need {_QEMU}"
    if find_kernel(folder) is None:
        return f"virtual machines need a kernel with its modules below {folder}"
    return "" if powercut.tool("mkfs.ext4") else "virtual machines need mkfs.ext4 (e2fsprogs)"


class _StillbornError(SimulatorError):
    """A machine ended before it did anything."""


class Machine:
    """A machine whose disks lie in a folder: `cut.img` and `new.img`, which a start does not make."""

    def __init__(self, work: Path, first: bytes, kernel: Kernel) -> None:
        """`first`: the initramfs, to which each job is added."""
        self._work, self._first, self._kernel = work, first, kernel

    def run(self, job: dict[str, Any], enough: Callable[[list[Fact]], bool], moment_s: float = 0.0) -> list[Fact]:
        """Start, wait until the facts are enough and a moment more, and kill; returns all facts that came out.

        A machine that ends by itself is not killed; one that dies before its first fact (an emulated kernel may, on a
        busy host) is started again. Raises SimulatorError where nothing comes for too long, or again and again.
        """
        for _ in range(_STARTS - 1):
            try:
                return self._start(job, enough, moment_s)
            except _StillbornError:
                continue
        return self._start(job, enough, moment_s)

    def _start(self, job: dict[str, Any], enough: Callable[[list[Fact]], bool], moment_s: float) -> list[Fact]:
        work = self._work
        archive = vm_pack.Archive()
        archive.add(vm_pack.JOB, json.dumps(job).encode())
        (work / "initrd").write_bytes(self._first + archive.close())
        for name, size in ((FACTS, _FACTS_BYTES), (LOG, _LOG_BYTES)):
            (work / name).unlink(missing_ok=True)
            (work / name).touch()
            os.truncate(work / name, size)
        with (work / "console").open("wb") as console:
            process = subprocess.Popen(self._command(), stdout=console, stderr=subprocess.STDOUT)
            try:
                self._wait(process, enough)
                time.sleep(moment_s)
            finally:
                process.kill()
                process.wait()
        return told((work / FACTS).read_bytes())

    def _wait(self, process: subprocess.Popen[bytes], enough: Callable[[list[Fact]], bool]) -> None:
        end_s, seen = time.monotonic() + PATIENCE_S, 0
        while process.poll() is None:
            time.sleep(_POLL_S)
            facts = told((self._work / FACTS).read_bytes()[:_FACTS_BYTES])
            if len(facts) > seen:
                seen = len(facts)
                if enough(facts):
                    return
            if time.monotonic() > end_s:
                raise SimulatorError(
                    f"a machine hangs: {self._last_words()}", hint="with less load on this machine, again"
                )
        facts = told((self._work / FACTS).read_bytes())
        if not facts or not enough(facts):
            words, hint = f"a machine ended: {self._last_words()}", f"is {self._kernel.image} a usual kernel?"
            raise SimulatorError(words, hint=hint) if facts else _StillbornError(words, hint=hint)

    def _last_words(self) -> str:
        lines = (self._work / "console").read_text("utf-8", "replace").strip().splitlines()
        said = [line for line in lines if not line.startswith("[")]  # not the kernel's
        return " / ".join((said or lines)[-4:])[-600:] or "without a word"

    def _command(self) -> list[str]:
        log = "driver=blklogwrites,node-name=logged,file=new,log=log,log-sector-size=512"
        drives = [
            *("-blockdev", f"driver=file,node-name=cut,filename={self._work / CUT}"),
            *("-device", "virtio-blk-pci,drive=cut"),
            *("-blockdev", f"driver=file,node-name=new,filename={self._work / NEW}"),
            *("-blockdev", f"driver=file,node-name=log,filename={self._work / LOG}"),
            *("-blockdev", log, "-device", "virtio-blk-pci,drive=logged,write-cache=on"),
            *("-blockdev", f"driver=file,node-name=facts,filename={self._work / FACTS}"),
            *("-device", "virtio-blk-pci,drive=facts"),
        ]
        kernel = ["-kernel", str(self._kernel.image), "-initrd", str(self._work / "initrd"), "-append", _COMMAND_LINE]
        return [_QEMU, *_ARGUMENTS, *kernel, *drives]
