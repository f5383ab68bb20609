"""A Linux board whose agent runs in a container of its platform, from the image that `skerry images build` makes: the
same life as in an emulated userland, and whether it is healthy and ends when asked.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from skerry_simulators.board_report import Report, Say
from skerry_simulators.boards import identity
from skerry_simulators.boards.journey import Journey, done, expect
from skerry_simulators.boards.site import Programs, patient
from skerry_simulators.errors import SimulatorError
from skerry_simulators.images import archive, binfmt, cli, engine, recipes, runner
from skerry_simulators.images.engine import Engine
from skerry_targets import fit, host
from skerry_targets.profile import Profile

PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
PROBES = 5  # so often the engine may ask before the container must be healthy
STOP_S = 300  # to end in: an emulated processor under load is slow


def platform_of(profile: Profile) -> str:
    """Return the platform of a board's containers.

    Raises:
        SimulatorError: there are none for it.
    """
    found = PLATFORMS.get(profile.abi.machine)
    if found is None or profile.abi.os != "linux" or profile.family == "cuda":
        raise SimulatorError(
            f"there is no container for {profile.id} ({profile.abi.os}, {profile.abi.machine})",
            hint="without --docker, or a Linux board of 64-bit ARM or x86-64",
        )
    if found == binfmt.native_platform():
        lacks = fit.missing(fit.predicates(profile), host.hardware({}, ""))
        if lacks:
            raise SimulatorError(
                f"this machine is no {profile.id}: {lacks[0]}", hint="x86-64-v1 --docker runs on every PC"
            )
    return found


class Container:
    """A board whose commands run in containers."""

    def __init__(self, profile: Profile, plan: dict[str, Any], folder: Path) -> None:
        identity.write(profile, folder)
        cpu = folder / "proc" / "cpuinfo"
        cpu.chmod(0o644)
        mine = {"files": {"/proc/cpuinfo": str(cpu)}, "environment": {"QEMU_CPU": profile.cpu.qemu_cpu or "max"}}
        self._plan = folder / "plan.json"
        self._plan.write_text(json.dumps({**plan, **mine}))

    def skerry(self, *words: str) -> list[str]:
        """Return the command line of a `skerry` command on the board."""
        return [sys.executable, "-m", runner.__name__, str(self._plan), *words]


class ContainerJourney(Journey):
    """A board's life in containers of an engine."""

    def __init__(self, profile: Profile, root: Path, cache: Path, say: Say, found: Engine, by: str) -> None:
        self._engine, self._platform, self._by = found, platform_of(profile), by
        self._run = f"{time.time_ns()}"
        super().__init__(profile, root, cache, say)

    def by(self) -> str:
        """Return what runs the containers, in words."""
        return f"{self._engine.words}, {self._by}"

    def close(self) -> None:
        """End everything, and remove the containers."""
        super().close()
        for each in self._containers():
            with contextlib.suppress(SimulatorError), engine.mapped("the container cannot be removed"):
                each.remove(force=True, v=True)

    def make(self) -> tuple[Programs, Programs | None]:
        """Build the image, load it, and return the board and its sibling."""
        with self.report.step("image") as step:
            tag = recipes.tag_of("agent", self._platform)
            image = recipes.build("agent", self._platform, tag, self.cache, self.say)
            self._engine.load(archive.pack([image]))
            done(step, f"{tag}, {image.size_bytes / 1e6:.0f} MB, {image.id[7:19]}")
        # Often, because somebody is watching; seldom where starting a Python to ask takes seconds.
        health_s = 3 if self._platform == binfmt.native_platform() else 20
        plan: dict[str, Any] = {"engine": self._engine.url, "image": image.id, "health_s": health_s}
        plan["labels"] = {"skerry.run": self._run}
        board = Container(self.profile, plan, self.root / "board")
        return board, Container(self.other, plan, self.root / "other") if self.other else None

    def live(self, board: Programs, other: Programs | None, fleet: Future[str], compiled: Future[None]) -> None:
        """The life of any board, and what only a container has."""
        super().live(board, other, fleet, compiled)
        container = self._containers("board", running=True)[0]
        with self.report.step("health") as step, engine.mapped("the engine does not tell how the container fares"):

            def health() -> dict[str, Any]:
                container.reload()
                found: dict[str, Any] = container.attrs["State"].get("Health", {})
                return found

            def judged() -> dict[str, Any] | None:
                found = health()
                over = found.get("Status") == "healthy" or found.get("FailingStreak", 0) >= PROBES
                return found if over else None

            found = patient("word on its health", judged, lambda: health().get("Log"), self.site.children)
            last = (found.get("Log") or [{}])[-1].get("Output", "").strip()
            expect(found["Status"] == "healthy", f"the engine says {found['Status']}: {last:.100}")
            done(step, "the engine says healthy")
        with self.report.step("stop") as step, engine.mapped("the container cannot be stopped"):
            container.stop(timeout=STOP_S)
            container.reload()
            code = container.attrs["State"]["ExitCode"]
            expect(code == 0, f"it ended with {code}")
            done(step, "ended by itself when asked")

    def _containers(self, folder: str = "", *, running: bool = False) -> list[Any]:
        labels = [f"skerry.run={self._run}", *([f"skerry.folder={folder}"] if folder else [])]
        with contextlib.suppress(SimulatorError), engine.mapped("the engine does not list its containers"):
            found: list[Any] = self._engine.client.containers.list(all=not running, filters={"label": labels})
            return found
        return []


def run(profile: Profile, say: Say, root: Path | None, url: str | None, cache: Path | None = None) -> Report:
    """Put a board through its life in containers, and return what came of each step.

    Raises:
        SimulatorError: no engine, no emulator, no image for the board, or the folder is not empty.
    """
    platform = platform_of(profile)
    with contextlib.ExitStack() as ends:
        if root is None:
            folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="skerry-docker-")))
            folder.chmod(0o755)
        else:
            folder = root.absolute() / profile.id
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                raise SimulatorError(f"{folder}: {error.strerror}", hint="give a new folder") from error
        found = ends.enter_context(engine.opened(url))
        by = ends.enter_context(binfmt.runnable(platform))
        journey = ContainerJourney(profile, folder, cache or cli.cache(), say, found, by)
        ends.callback(journey.close)
        return journey.play()
