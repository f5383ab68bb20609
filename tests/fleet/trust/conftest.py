"""A real office in a temporary folder, and python-tuf's own client reading its files."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from skerry_fleet.trust.office import TrustOffice, open_office

NOW_S = 1_800_000_000.0
DAY_S = 86400.0


class FolderFetcher(FetcherInterface):
    """Answers `http://fleet/...` from a folder: the transport is the only thing that is not as on a device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix("http://fleet/")
        self.asked.append(name)
        try:
            return iter([(self.folder / name).read_bytes()])
        except FileNotFoundError:
            raise DownloadHTTPError("not found", 404) from None


class Device:
    """A device's updater state: what it has trusted so far stays in its folder."""

    def __init__(self, repository: Path, folder: Path, root: bytes) -> None:
        self.fetcher = FolderFetcher(repository)
        self.folder = folder
        self.root = root

    def fetch(self, target_path: str, now_s: float = NOW_S) -> bytes | None:
        """Refresh at `now_s` and return the target's bytes, None if it is not listed."""
        with tempfile.TemporaryDirectory() as targets:
            updater = Updater(
                str(self.folder),
                "http://fleet/metadata/",
                targets,
                "http://fleet/targets/",
                fetcher=self.fetcher,
                bootstrap=self.root,
            )
            updater._trusted_set.reference_time = dt.datetime.fromtimestamp(now_s, dt.UTC)
            updater.refresh()
            info = updater.get_targetinfo(target_path)
            return None if info is None else Path(updater.download_target(info)).read_bytes()


MakeDevice = Callable[[], Device]


@pytest.fixture
def office(tmp_path: Path) -> TrustOffice:
    return open_office(tmp_path / "fleet", "default", NOW_S)


@pytest.fixture
def make_device(tmp_path: Path, office: TrustOffice) -> MakeDevice:
    count = iter(range(1000))

    def make() -> Device:
        folder = tmp_path / f"device-{next(count)}"
        folder.mkdir()
        return Device(tmp_path / "fleet" / "tuf", folder, office.repository.bootstrap_root())

    return make
