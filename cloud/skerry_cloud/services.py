"""Everything the rooms of the cloud side share, made once at the top (app.py, cli.py) and passed down."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

from skerry_cloud.config import ProjectConfig, load_projects
from skerry_cloud.database import Database
from skerry_cloud.errors import NotFoundError, StoppingError
from skerry_cloud.files import FileStore
from skerry_cloud.fleet_client import FleetClient
from skerry_cloud.labels.jobs import Jobs
from skerry_cloud.lake.lake import Lake
from skerry_cloud.registry import Registry


@dataclasses.dataclass(frozen=True, slots=True)
class Services:
    """The cloud's parts. `client` is None where no fleet was named (training, reading)."""

    root: Path
    projects: dict[str, ProjectConfig]
    database: Database
    lake: Lake
    registry: Registry
    jobs: Jobs
    client: FleetClient | None
    now: Callable[[], float]
    stopping: threading.Event

    def project(self, model: str) -> ProjectConfig:
        """Return a model's project.

        Raises:
            NotFoundError: no project file names it.
        """
        if model not in self.projects:
            hint = f"put its project file into {self.root / 'projects'}"
            raise NotFoundError(f"no project for the model {model!r}", hint=hint)
        return self.projects[model]

    def fleet(self) -> FleetClient:
        """Return the fleet's client.

        Raises:
            NotFoundError: this command was given no fleet.
        """
        if self.client is None:
            raise NotFoundError("no fleet was named", hint="give --fleet URL and --key FILE")
        return self.client

    def rest(self, seconds: float) -> None:
        """Wait.

        Raises:
            StoppingError: the process is stopping.
        """
        if self.stopping.wait(seconds):
            raise StoppingError("stopping")

    def close(self) -> None:
        """Close files and connections."""
        if self.client is not None:
            self.client.close()
        self.lake.close()
        self.database.close()


def open_services(
    root: Path,
    *,
    client: FleetClient | None = None,
    writer: bool = False,
    now: Callable[[], float] = time.time,
    projects: dict[str, ProjectConfig] | None = None,
) -> Services:
    """Open the cloud's folder; `writer`: this process fills the lake (only one may).

    Raises:
        ConfigError: a project file is wrong.
        DataError: the database cannot be opened.
        RefusedError: another process is the writer.
    """
    root.mkdir(parents=True, exist_ok=True)
    database = Database(root / "cloud.db")
    return Services(
        root=root,
        projects=load_projects(root) if projects is None else projects,
        database=database,
        lake=Lake(root / "lake", database, writer=writer),
        registry=Registry(database, FileStore(root / "files"), now),
        jobs=Jobs(database, now),
        client=client,
        now=now,
        stopping=threading.Event(),
    )
