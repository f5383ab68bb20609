from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cloud.fleet_double import KEY, Fleet, serving

from skerry_cloud.database import Database
from skerry_cloud.fleet_client import FleetClient
from skerry_cloud.lake.lake import Lake


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "cloud.db")
    yield opened
    opened.close()


@pytest.fixture
def lake(tmp_path: Path, database: Database) -> Iterator[Lake]:
    opened = Lake(tmp_path / "lake", database, writer=True)
    yield opened
    opened.close()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def client(fleet: Fleet) -> Iterator[FleetClient]:
    with serving(fleet) as url:
        opened = FleetClient(url, KEY)
        yield opened
        opened.close()
