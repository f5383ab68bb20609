"""A microcontroller in QEMU's system mode with the C core that ships (agent/skerry_firmware), and its day."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skerry_compiler.firmware import build
from skerry_firmware.link import Board
from skerry_simulators.board_report import Report, Say
from skerry_simulators.errors import SimulatorError
from skerry_targets.profile import Profile

STATE_BYTES = 512
WAIT_S = 60


class Machine:
    """An emulated board with the core built for it: its flash is a file that stays when the power goes."""

    def __init__(self, profile: Profile, core: bytes, folder: Path) -> None:
        """Put it together; it has no power yet."""
        self.profile, self.folder = profile, folder
        (folder / "core.elf").write_bytes(core)
        (folder / "flash").write_bytes(b"\xff" * (STATE_BYTES + 2 * build.slot_bytes(profile)))
        for name in ("in", "out"):
            os.mkfifo(folder / name)

    def start(self) -> None:
        """Give it power.

        Raises:
            LinkError: it does not answer.
        """
        self._incoming, self._outgoing = (os.open(self.folder / name, os.O_RDWR) for name in ("in", "out"))
        emulator = self.profile.emulator
        command = [emulator.command, "-M", emulator.machine, "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", "core.elf"]
        self._process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL)
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
    """Give a board with a core power, and take it in the end."""
    with tempfile.TemporaryDirectory(prefix="skerry-board-") as name:
        machine = Machine(profile, core, Path(name))
        machine.start()
        try:
            yield machine
        finally:
            machine.cut()


def run(profile: Profile, say: Say) -> Report:
    """Put a board through its day.

    Raises:
        SimulatorError: its emulator is not here, or has no room for the core and two slots.
    """
    emulator = profile.emulator
    if emulator.machine not in build.MEMORIES:
        raise SimulatorError(
            f"the emulated {emulator.machine} has no room for two slots", hint="cortex-m3 runs the same instructions"
        )
    if shutil.which(emulator.command) is None:
        raise SimulatorError(f"no {emulator.command} here", hint="apt install qemu-system-arm")
    report = Report(profile.id, f"{emulator.command} {emulator.machine}", say=say)
    with report.step("boot") as step:
        core = build.firmware(profile, bytes(32))
        with powered(profile, core) as machine:
            found = machine.board.report()
            step.held, step.seen = found.release == 0, f"no model, {found.slot_bytes} bytes a slot"
    return report
