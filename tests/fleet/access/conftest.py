"""Fleets with a provider of identities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet.access.oidc_world import World, opened

from skerry_fleet.oidc import KEPT_S


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path / "fleet") as found:
        yield found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(tmp_path_factory.mktemp("oidc")) as found:
        yield found


@pytest.fixture
def strict(house: World) -> Iterator[World]:
    """A world into which nobody got, before and after the test."""
    house.provider.sign, house.provider.about = None, {}
    house.provider.raw.clear()
    house.provider.asked.clear()
    house.clock.now += KEPT_S
    house.provider.claims = house.claims()
    yield house
    assert house.client.get("/api/v1/users").json()["items"] == []
