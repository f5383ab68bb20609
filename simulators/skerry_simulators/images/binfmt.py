"""Programs of another processor, started by the kernel through QEMU: binfmt_misc, for as long as a context lasts.

Source: Documentation/admin-guide/binfmt-misc.rst. Flag F opens the interpreter when it is registered, so that it need
not be in a container; P keeps a program's own first argument. What somebody registered before is used as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skerry_simulators.errors import SimulatorError

USUAL = Path("/proc/sys/fs/binfmt_misc")
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """Programs of a machine: the emulator, and the first bytes of an ELF file by class, byte order and machine."""

    emulator: str
    elf_class: int
    elf_machine: int

    @property
    def magic(self) -> bytes:
        """An executable's first twenty bytes, as the kernel compares them under `mask`."""
        return b"\x7fELF" + bytes((self.elf_class, 1, 1)) + bytes(9) + bytes((2, 0, self.elf_machine, 0))

    @property
    def mask(self) -> bytes:
        """Every bit but the system's number, and the one that tells a position-independent program."""
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"


# System V ABI: e_machine 40 ARM, 62 x86-64, 183 AArch64, 243 RISC-V
MACHINES = {
    "linux/amd64": Foreign("qemu-x86_64-static", 2, 62),
    "linux/arm64": Foreign("qemu-aarch64-static", 2, 183),
    "linux/arm/v7": Foreign("qemu-arm-static", 1, 40),
    "linux/riscv64": Foreign("qemu-riscv64-static", 2, 243),
}
_NATIVE = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "armv7l": "linux/arm/v7", "riscv64": "linux/riscv64"}


def native_platform() -> str:
    """Return what engines call this machine's kind.

    Raises:
        SimulatorError: there are no images for it.
    """
    found = _NATIVE.get(machine := os.uname().machine)
    if found is None:
        raise SimulatorError(f"there are no images for {machine}", hint=f"use one of {', '.join(_NATIVE)}")
    return found


def line(foreign: Foreign, name: str, interpreter: str) -> str:
    """Return what is written to `register`."""
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in each) for each in (foreign.magic, foreign.mask))
    return f":{name}:M::{magic}:{mask}:{interpreter}:PF"


@contextlib.contextmanager
def runnable(platform: str) -> Iterator[str]:
    """Let the kernel start a platform's programs here; yields what runs them, in words. What it registers it removes.

    Raises:
        SimulatorError: nobody has registered an emulator that containers can use, and this process cannot.
    """
    if platform == native_platform():
        yield "this machine's processor"
        return
    foreign = MACHINES[platform]
    with _mounted() as folder:
        known = registered(folder, foreign)
        if known:
            yield f"{foreign.emulator} (binfmt_misc: {known})"
            return
        interpreter = shutil.which(foreign.emulator)
        if interpreter is None:
            raise SimulatorError(f"{foreign.emulator} is not here", hint="apt install qemu-user-static")
        name = f"skerry-{foreign.emulator.split('-')[1]}-{os.getpid()}"
        try:
            (folder / "register").write_text(line(foreign, name, interpreter))
        except OSError as error:
            raise SimulatorError(f"binfmt_misc refuses {foreign.emulator}: {error.strerror}", hint=_HINT) from error
        try:
            yield f"{foreign.emulator} (binfmt_misc, for now)"
        finally:
            with contextlib.suppress(OSError):
                (folder / name).write_text("-1")


_HINT = "as root: apt install qemu-user-static binfmt-support, which registers it; or run this command as root"


def registered(folder: Path, foreign: Foreign) -> str:
    """Return the name under which an emulator of these programs is registered and enabled so that containers can use it
    (flag F); empty for none.
    """
    magic = foreign.magic.hex()
    for entry in sorted(folder.iterdir()):
        if entry.name in ("register", "status"):
            continue
        try:
            words = dict(each.partition(" ")[::2] for each in entry.read_text().splitlines())
        except OSError:
            continue
        if "enabled" in words and words.get("magic") == magic and "F" in words.get("flags:", ""):
            return entry.name
    return ""


@contextlib.contextmanager
def _mounted() -> Iterator[Path]:
    """Yield a folder in which binfmt_misc is mounted: the usual one, or one of our own for as long as it is needed."""
    if (USUAL / "register").exists():
        yield USUAL
        return
    with tempfile.TemporaryDirectory(prefix="skerry-binfmt-") as made:
        if _libc.mount(b"binfmt_misc", made.encode(), b"binfmt_misc", 0, None):
            why = os.strerror(ctypes.get_errno())
            raise SimulatorError(f"binfmt_misc cannot be mounted: {why}", hint=_HINT)
        try:
            yield Path(made)
        finally:
            _libc.umount2(made.encode(), _MNT_DETACH)
