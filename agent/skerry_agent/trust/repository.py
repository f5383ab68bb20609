"""An update repository (TUF) as it is now: python-tuf's client, with floors that it forgets and a sane clock.

python-tuf keeps its rollback memory in cache files that a power cut can empty (measured: a replay of version 5 was
then accepted after 61), and judges expiry by the machine's clock (at 1970 nothing ever expires). So the least
versions and the earliest time come from the caller's own durable memory, and the first root from what was pinned.
Specification: The Update Framework 1.0.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tuf.api import exceptions
from tuf.api.metadata import TargetFile
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from skerry_agent.errors import NetworkError, TrustError
from skerry_contracts.device import Reason

Download = Callable[[str], Iterator[bytes]]
# Every look walks from the pinned root, those in the cache included: python-tuf's own bound of 256 would shut a device
# out for ever with the 257th. Only two root keys together can make a root, so nobody else can make the walk long.
MAX_ROOTS = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What a client must remember between two looks: least versions by role, and a time that has surely passed."""

    floors: Mapping[str, int]
    clock_floor_s: float


class _Fetcher(FetcherInterface):
    """Fetches through our own bounded connections, and remembers why one failed."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self.trouble: NetworkError | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        pieces = self._pieces(url)
        first = next(pieces, b"")  # so that a refusal comes at once
        return itertools.chain([first], pieces)

    def _pieces(self, url: str) -> Iterator[bytes]:
        try:
            yield from self._download(url)
        except NetworkError as error:
            if "HTTP 404" in str(error):  # how a client learns that there is no newer root
                raise exceptions.DownloadHTTPError(str(error), 404) from error
            self.trouble = error
            raise exceptions.DownloadError(str(error)) from error


class Repository:
    """A verified view of the repository. Every method raises TrustError or NetworkError, nothing of the library's."""

    def __init__(
        self, folder: Path, root: bytes, memory: Memory, wall_s: float, urls: tuple[str, str], download: Download
    ) -> None:
        """Prepare a look. `folder`: the cache; `root`: the pinned first root; `urls`: of the metadata and the targets.

        Raises:
            TrustError: the pinned root is no root.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._floors = memory.floors
        self._fetcher = _Fetcher(download)
        with self._translated():
            config = UpdaterConfig(max_root_rotations=MAX_ROOTS)
            self._updater = Updater(str(folder), urls[0], str(folder), urls[1], self._fetcher, config, bootstrap=root)
        # A private attribute (pinned to tuf 7 and tested): the one place where the client takes its time from.
        moment = dt.datetime.fromtimestamp(max(wall_s, memory.clock_floor_s), dt.UTC)
        self._updater._trusted_set.reference_time = moment

    def refresh(self) -> None:
        """Fetch and verify root, timestamp, snapshot and targets.

        Raises:
            TrustError: EXPIRED, REPLAYED (older than the floors), CORRUPT or UNSIGNED.
            NetworkError: the repository cannot be reached.
        """
        with self._translated():
            self._updater.refresh()
        self._check()

    def find(self, target_path: str) -> TargetFile | None:
        """Return what the repository says of a target, walking its delegations; None where it is not listed.

        Raises:
            TrustError, NetworkError: as for `refresh`.
        """
        with self._translated():
            found: TargetFile | None = self._updater.get_targetinfo(target_path)
        self._check()
        return found

    def download(self, target: TargetFile, path: Path) -> None:
        """Put a target's verified content at a path, durably and whole; nothing where that is what lies there.

        Raises:
            TrustError, NetworkError: as for `refresh`; what lay there before stays.
        """
        with self._translated():
            if self._updater.find_cached_target(target, str(path)) is not None:
                return
            arriving = path.with_name(f"{path.name}.new")
            try:
                self._updater.download_target(target, str(arriving))
                with arriving.open("rb") as file:
                    os.fsync(file.fileno())
                arriving.replace(path)
            finally:
                arriving.unlink(missing_ok=True)

    def versions(self) -> dict[str, int]:
        """Return the versions of all roles that were looked at, as floors: `ROLE@KEYS`, and `root`.

        A floor holds as long as the online keys do. When root replaces the timestamp's or the snapshot's keys, every
        version but root's may start anew (specification 5.3.11): whoever stole a key and signed the highest version
        there is must not shut devices out for ever.
        """
        trusted = self._updater._trusted_set
        roles = ["timestamp", "snapshot"]
        if "targets" in trusted:
            delegations = trusted.targets.delegations
            roles += ["targets", *(list(delegations.roles or ()) if delegations is not None else [])]
        keys = {role: trusted.root.roles[role] for role in ("timestamp", "snapshot")}
        said = repr([(sorted(each.keyids), each.threshold) for each in keys.values()]).encode()
        epoch = hashlib.sha256(said).hexdigest()[:12]
        found = {f"{role}@{epoch}": trusted[role].version for role in roles if role in trusted}
        return {"root": trusted.root.version, **found}

    def _check(self) -> None:
        versions = self.versions()
        for role, least in self._floors.items():
            if role in versions and versions[role] < least:
                said = f"{role.partition('@')[0]} {versions[role]} is older than {least}, which this device has seen"
                raise TrustError(said, reason=Reason.REPLAYED)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
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
