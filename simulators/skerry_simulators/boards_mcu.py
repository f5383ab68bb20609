"""A microcontroller's day in its emulator: the C core that ships (agent/skerry_firmware) takes models over its link,
refuses what is not for it, goes back, and loses its power in the middle of an update.
"""

from __future__ import annotations

import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry_compiler.errors import CompileError
from skerry_compiler.firmware import build, emulated
from skerry_compiler.firmware.image import Image, stream
from skerry_firmware.link import LinkError, encode
from skerry_simulators import mcu_models
from skerry_simulators.board_report import Report, Say, Step
from skerry_simulators.errors import SimulatorError
from skerry_simulators.mcu_models import Model
from skerry_targets.nearest import kilobytes
from skerry_targets.profile import Profile


class _Cut(Exception):
    """The power is to go now."""


def run(profile: Profile, say: Say) -> Report:
    """Put a board through its day.

    Raises:
        SimulatorError: its emulator is not here, or the reference models cannot be made for it.
    """
    if not emulated.available(profile):
        raise SimulatorError(f"no {profile.emulator.command} here", hint="apt install qemu-system-arm")
    machine, own = build.machine_of(profile), profile.emulator.machine
    instead = "" if machine == own else f" (in place of {own}, which has no room for two slots)"
    report = Report(profile.id, f"{profile.emulator.command} {machine}{instead}", say=say)
    key = Ed25519PrivateKey.generate()
    try:
        core = build.firmware(profile, key.public_key().public_bytes_raw())
        with emulated.powered(profile, core) as board:
            day = Day(profile, board, key, report)
            day.boots(build.sizes(core))
            day.updates()
            day.refuses()
            day.goes_back()
            day.loses_power()
            day.ends()
    except LinkError as error:  # the step that it happened in says so; there is no board to go on with
        if not report.steps:
            raise SimulatorError(f"{profile.id} does not start: {error}", hint="look at its emulator") from error
    except CompileError as error:
        raise SimulatorError(str(error), hint=error.hint) from error
    return report


class Day:
    """A board that has power, and what is tried with it."""

    def __init__(self, profile: Profile, board: emulated.Machine, key: Ed25519PrivateKey, report: Report) -> None:
        """Take a board whose core trusts the key."""
        self._profile, self._machine, self._key, self._report = profile, board, key, report
        self._whole, self._small = mcu_models.pair(profile)
        self._runs = self._whole
        self._release = 0

    def boots(self, sizes: build.Sizes) -> None:
        """Start with empty flash."""
        with self._report.step("boots") as step:
            found = self._machine.board.report()
            step.held = found.release == 0
            step.seen = f"no model yet; two slots of {kilobytes(found.slot_bytes)}, {kilobytes(found.ram_bytes)} for it"
            step.flash_bytes, step.ram_bytes = sizes.flash_bytes, sizes.ram_bytes

    def updates(self) -> None:
        """Take a model into slot A, and its form in bytes into slot B."""
        for model, slot in ((self._whole, "A"), (self._small, "B")):
            with self._report.step(f"takes {model.name} into slot {slot}") as step:
                self._installs(step, model)

    def refuses(self) -> None:
        """Refuse what is not for this board, and write nothing."""
        slot = build.slot_bytes(self._profile)
        self._refused("refuses a wrong signature", mcu_models.forged(self._made(self._small)), "not signed")
        self._refused("refuses an older release", self._made(self._whole, 1), "not newer")
        self._refused("refuses another processor's code", self._foreign(), "lacks")
        self._refused("refuses more than its slot", self._made(self._small.padded(slot)), "fit")

    def goes_back(self) -> None:
        """Try models that fail: the one before runs on."""
        for name, bad in (
            ("goes back after wrong answers", self._small.wrong()),
            ("goes back after a crash", mcu_models.crashing(self._profile, self._small)),
        ):
            with self._report.step(name) as step:
                image = self._made(bad)
                step.flash_bytes, step.ram_bytes = image.flash_bytes, image.ram_bytes
                try:
                    self._machine.board.install(*stream(image.content))
                    step.seen = "it was taken"
                except LinkError as error:
                    self._still(step, str(error))

    def loses_power(self) -> None:
        """Take the power away at three moments of an update; then let it come whole."""
        for name, share in (("just begun", 0.0), ("half written", 0.5), ("being tried", 1.0)):
            with self._report.step(f"loses power, {name}") as step:
                self._cut_at(step, share)
        with self._report.step("takes the same update again") as step:
            self._installs(step, self._whole)

    def ends(self) -> None:
        """Ask how it is."""
        with self._report.step("reports") as step:
            found = self._machine.board.report()
            step.held = found.release == self._release and found.problem == 0
            words = f"release {found.release} ({found.name}) in slot {'AB'[found.slot]}, {found.starts} starts"
            step.seen = f"{words}, last problem: {found.trouble}"

    def _installs(self, step: Step, model: Model) -> None:
        image = self._made(model)
        step.flash_bytes, step.ram_bytes = image.flash_bytes, image.ram_bytes
        self._release = self._machine.board.install(*stream(image.content))
        self._runs = model
        step.held, step.seen = model.answered(self._machine.board)

    def _still(self, step: Step, why: str) -> None:
        """Note that the board does what it did before."""
        found = self._machine.board.report()
        right, seen = self._runs.answered(self._machine.board)
        step.held = right and found.release == self._release
        step.seen = f"{why}; release {found.release} runs: {seen}"

    def _refused(self, name: str, image: Image, because: str) -> None:
        with self._report.step(name) as step:
            step.flash_bytes, step.ram_bytes = image.flash_bytes, image.ram_bytes
            before = self._machine.flash_file.read_bytes()
            try:
                self._machine.board.install(*stream(image.content))
                step.seen = "it was taken"
            except LinkError as error:
                same = self._machine.flash_file.read_bytes() == before
                step.held = same and because in str(error)
                step.seen = f"{error}; {'nothing was written' if same else 'its flash was written'}"

    def _cut_at(self, step: Step, share: float) -> None:
        image = self._made(self._whole)
        step.flash_bytes, step.ram_bytes = image.flash_bytes, image.ram_bytes
        sent = 0

        def watch(done: int, whole: int) -> None:
            nonlocal sent
            sent = done
            if done >= share * whole:
                if share == 1:
                    self._begin_trial()
                raise _Cut

        try:
            self._machine.board.install(*stream(image.content), watch)
        except _Cut:
            self._machine.cut()
        self._machine.start()
        found = self._machine.board.report()
        if share == 1 and found.release == self._release + 1:
            self._release, self._runs = found.release, self._whole
        self._still(step, f"cut after {sent} bytes")

    def _begin_trial(self) -> None:
        """Say that the image is whole, and wait until the board has written down that it tries it."""
        before, until_s = self._state(), time.monotonic() + emulated.WAIT_S
        self._machine.write(encode(b"f\1"))
        while self._state() == before and time.monotonic() < until_s:
            time.sleep(0.001)

    def _state(self) -> bytes:
        with self._machine.flash_file.open("rb") as file:
            return file.read(build.STATE_BYTES)

    def _made(self, model: Model, release: int = 0) -> Image:
        return mcu_models.image_of(model, self._profile, self._key, release or self._release + 1)

    def _foreign(self) -> Image:
        """Return an image for the nearest processor that has what this one lacks, or for one that nobody has yet."""
        for other in mcu_models.stronger(self._profile):
            return mcu_models.image_of(mcu_models.pair(other)[1], other, self._key, self._release + 1)
        return mcu_models.unheard_of(self._made(self._small), self._key)
