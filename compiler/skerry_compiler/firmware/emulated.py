"""A microcontroller in QEMU's system mode with the C core that ships on it (agent/skerry_firmware): its flash is a file
that stays when the power goes, its link two pipes.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skerry_compiler.errors import CompileError
from skerry_compiler.firmware import build
from skerry_firmware.link import Board
from skerry_targets.profile import Profile

WAIT_S = 60


class Machine:
    """An emulated board with a core built for it. `board` is the other end of its link while it has power."""

    board: Board

    def __init__(self, profile: Profile, core: bytes, folder: Path) -> None:
        """Put it together in a folder; it has no power yet."""
        self.profile, self.folder = profile, folder
        (folder / "core.elf").write_bytes(core)
        self.flash_file.write_bytes(b"\xff" * (build.STATE_BYTES + 2 * build.slot_bytes(profile)))
        for name in ("in", "out"):
            os.mkfifo(folder / name)

    @property
    def flash_file(self) -> Path:
        """Where its flash is: state, slot A, slot B."""
        return self.folder / "flash"

    def start(self) -> None:
        """Give it power.

        Raises:
            LinkError: it does not answer.
        """
        self._incoming, self._outgoing = (os.open(self.folder / name, os.O_RDWR) for name in ("in", "out"))
        command = [self.profile.emulator.command, "-M", build.machine_of(self.profile), "-nographic"]
        command += ["-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
        self._process = subprocess.Popen([*command, "-kernel", "core.elf"], cwd=self.folder, stdin=subprocess.DEVNULL)
        self.board = Board(self)
        self.board.report()

    def cut(self) -> None:
        """Take its power, in whatever it does."""
        self._process.kill()
        self._process.wait()
        os.close(self._incoming)
        os.close(self._outgoing)

    def read(self) -> bytes:
        """Return what came over the line, nothing after a while without."""
        ready, _, _ = select.select([self._outgoing], [], [], WAIT_S)
        return os.read(self._outgoing, 4096) if ready else b""

    def write(self, data: bytes) -> None:
        """Send all over the line."""
        os.write(self._incoming, data)


@contextlib.contextmanager
def powered(profile: Profile, core: bytes) -> Iterator[Machine]:
    """Give an emulated board with a core power, and take it in the end.

    Raises:
        CompileError: its emulator is not here, or has no room.
        LinkError: it does not answer.
    """
    if not available(profile):
        raise CompileError(f"nothing here runs an agent on {profile.id}", hint="apt install qemu-system-arm")
    with tempfile.TemporaryDirectory(prefix="skerry-board-") as name:
        machine = Machine(profile, core, Path(name))
        try:
            machine.start()
            yield machine
        finally:
            machine.cut()


def available(profile: Profile) -> bool:
    """Return whether this machine has the profile's emulated board, with room for a core and two slots."""
    emulator = profile.emulator
    known = emulator.kind == "qemu-system" and build.machine_of(profile) in build.MEMORIES
    return known and shutil.which(emulator.command) is not None
