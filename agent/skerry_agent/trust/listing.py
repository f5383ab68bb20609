"""Does the fleet's update repository list a bundle?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from skerry_agent.errors import TrustError
from skerry_agent.store import Store
from skerry_agent.trust import deltas
from skerry_agent.trust.repository import Memory, Repository
from skerry_agent.trust.transfer import Fleet
from skerry_contracts.device import Reason

METADATA = "/tuf/metadata/"
TARGETS = "/tuf/targets/"
ARRIVING = "arriving"  # a folder in the cache, where no role has its file
MAX_METADATA_BYTES = 8 * 1024 * 1024


class Listing:
    """The fleet's update repository as it is now. Its addresses are paths on the fleet's own connection."""

    def __init__(
        self, fleet: Fleet, folder: Path, root: bytes, memory: Memory, wall_s: float, store: Store | None = None
    ) -> None:
        """Prepare a look; see `Repository`. `store`: what is installed, from which a manifest may be made."""

        def download(path: str) -> Iterator[bytes]:
            return fleet.stream(path, max_bytes=MAX_METADATA_BYTES)[1]

        self._folder, self._fleet, self._store = folder, fleet, store
        self._repository = Repository(folder, root, memory, wall_s, (METADATA, TARGETS), download)

    def manifest(self, target_path: str, bundle: str, size_bytes: int) -> tuple[bytes, dict[str, int]]:
        """Return the manifest's bytes and the versions of all roles that were looked at.

        Raises:
            TrustError: NOT_LISTED, REPLAYED (an older repository), EXPIRED, UNSIGNED or CORRUPT.
            NetworkError: the repository cannot be reached.
        """
        self._repository.refresh()
        listed = self._repository.find(target_path)
        if listed is None:
            raise TrustError(f"{target_path} is not listed", reason=Reason.NOT_LISTED)
        if listed.length != size_bytes or listed.hashes.get("sha256") != bundle:
            raise TrustError(f"{target_path} is listed as something else", reason=Reason.NOT_LISTED)
        path = self._folder / ARRIVING / "manifest.json"  # always the same, so that no power cut leaves one more behind
        path.parent.mkdir(exist_ok=True)
        if self._store is not None and size_bytes >= deltas.LEAST_MANIFEST_BYTES:
            near = deltas.manifest(self._store, self._fleet, target_path.partition("/")[0], bundle, size_bytes)
            path.write_bytes(near or b"")  # TUF's own client then finds it there, and checks it
        self._repository.download(listed, path)
        try:
            return path.read_bytes(), self._repository.versions()
        finally:
            path.unlink()
