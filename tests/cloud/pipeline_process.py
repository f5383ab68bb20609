"""A process that runs one pipeline and is killed at every step boundary in turn: `ROOT URL PIPELINE [--whole]`.

The libraries are loaded once; then each life is a fork that opens everything anew, walks, and kills itself with SIGKILL
at the first boundary where no life before it died. Prints the boundaries.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime  # noqa: F401  # loaded once for all lives
import sklearn.cluster
import sklearn.svm  # noqa: F401
from tests.cloud.fleet_double import KEY

from skerry_cloud.fleet_client import FleetClient
from skerry_cloud.pipelines.engine import Executor, Log, Pipeline, Step
from skerry_cloud.pipelines.walk import walk
from skerry_cloud.services import Services, open_services


class Killer:
    def __init__(self, deaths: Path) -> None:
        self.deaths = deaths

    def pass_by(self, boundary: str) -> None:
        died = self.deaths.read_text().split() if self.deaths.exists() else []
        if boundary not in died:
            with self.deaths.open("a") as file:
                file.write(boundary + "\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, step: Step) -> Step:
        def deadly(name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            def work() -> dict[str, Any]:
                self.pass_by(f"{name}:begun")
                result = function()
                self.pass_by(f"{name}:done")
                return result

            result = step(name, work)
            self.pass_by(f"{name}:logged")
            return result

        return deadly


def body(services: Services, log: Log, killer: Killer | None, pipeline: Pipeline, step: Step) -> dict[str, Any]:
    return walk(services, log, pipeline, killer.wrap(step) if killer else step)


def live(root: Path, url: str, pipeline: str, killer: Killer | None) -> None:
    services = open_services(root, client=FleetClient(url, KEY), writer=True)
    log = Log(services.database, services.now)
    Executor(log, partial(body, services, log, killer), services.stopping).run(pipeline)
    services.close()


def main(root: Path, url: str, pipeline: str, whole: bool) -> None:
    killer = None if whole else Killer(root / "deaths")
    for _ in range(200):
        child = os.fork()
        if child == 0:
            live(root, url, pipeline, killer)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            sys.stdout.write((root / "deaths").read_text() if killer else "")
            return
        if status != -signal.SIGKILL:
            sys.exit(f"a life ended with {status}")
    sys.exit("the pipeline never ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], "--whole" in sys.argv)
