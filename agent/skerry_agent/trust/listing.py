"""Does the update repository (TUF) list a bundle? python-tuf's client, with floors that it forgets and a sane clock.

python-tuf keeps its rollback memory in cache files that a power cut can empty (measured: a replay of version 5 was
then accepted after 61), and judges expiry by the machine's clock (at 1970 nothing ever expires). So the least
versions and the earliest time come from the agent's own ledger, and the first root from what enrolment pinned.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tuf.api import exceptions
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from skerry_agent.errors import NetworkError, TrustError
from skerry_agent.trust.transfer import Fleet
from skerry_contracts.device import Reason

METADATA = "/tuf/metadata/"
TARGETS = "/tuf/targets/"
MAX_METADATA_BYTES = 8 * 1024 * 1024


class _Fetcher(FetcherInterface):
    """Fetches through our own connection, with the device's token. Addresses are paths, since we made them."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.trouble: NetworkError | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([self._fleet.get(url, max_bytes=MAX_METADATA_BYTES)])
        except NetworkError as error:
            if "HTTP 404" in str(error):  # how a client learns that there is no newer root
                raise exceptions.DownloadHTTPError(str(error), 404) from error
            self.trouble = error
            raise exceptions.DownloadError(str(error)) from error


class Listing:
    """The update repository as it is now."""

    def __init__(
        self, fleet: Fleet, folder: Path, root: bytes, floors: Mapping[str, int], clock_floor_s: float, wall_s: float
    ) -> None:
        """Prepare a look. `folder`: TUF's cache; `root`: the pinned first root; `floors`: least versions by role."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._floors = dict(floors)
        self._fetcher = _Fetcher(fleet)
        self._updater = Updater(str(folder), METADATA, str(folder), TARGETS, self._fetcher, bootstrap=root)
        # A private attribute (pinned to tuf 7 and tested): the one place where the client takes its time from.
        moment = dt.datetime.fromtimestamp(max(wall_s, clock_floor_s), dt.UTC)
        self._updater._trusted_set.reference_time = moment

    def manifest(self, target_path: str, bundle: str, size_bytes: int) -> tuple[bytes, dict[str, int]]:
        """Return the manifest's bytes and the versions of all roles that were looked at.

        Raises:
            TrustError: NOT_LISTED, REPLAYED (an older repository), EXPIRED, UNSIGNED or CORRUPT.
            NetworkError: the repository cannot be reached.
        """
        try:
            self._updater.refresh()
            listed = self._updater.get_targetinfo(target_path)
            versions = self._versions()
            self._check(versions)
            if listed is None:
                raise TrustError(f"{target_path} is not listed", reason=Reason.NOT_LISTED)
            if listed.length != size_bytes or listed.hashes.get("sha256") != bundle:
                raise TrustError(f"{target_path} is listed as something else", reason=Reason.NOT_LISTED)
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                path = self._updater.download_target(listed, str(Path(folder) / "manifest.json"))
                return Path(path).read_bytes(), versions
        except exceptions.ExpiredMetadataError as error:
            raise TrustError(str(error), reason=Reason.EXPIRED) from error
        except exceptions.BadVersionNumberError as error:
            raise TrustError(str(error), reason=Reason.REPLAYED) from error
        except exceptions.LengthOrHashMismatchError as error:
            raise TrustError(str(error), reason=Reason.CORRUPT) from error
        except exceptions.RepositoryError as error:
            raise TrustError(str(error), reason=Reason.UNSIGNED) from error
        except exceptions.DownloadError as error:
            raise self._fetcher.trouble or NetworkError(str(error)) from error
        except (OSError, ValueError) as error:
            raise NetworkError(f"update repository: {error}") from error

    def _versions(self) -> dict[str, int]:
        trusted = self._updater._trusted_set
        delegations = trusted.targets.delegations
        models = list(delegations.roles or ()) if delegations is not None else []
        names = ["root", "timestamp", "snapshot", "targets", *models]
        return {name: trusted[name].version for name in names if name in trusted}

    def _check(self, versions: Mapping[str, int]) -> None:
        for role, least in self._floors.items():
            if role in versions and versions[role] < least:
                said = f"{role} {versions[role]} is older than {least}, which this device has seen"
                raise TrustError(said, reason=Reason.REPLAYED)
