"""The content-addressed store: blobs by their SHA-256, and a bundle's manifest that appears only after all its blobs.

    store/blobs/<sha256>                  never changed once it has this name
    store/bundles/<bundle>/manifest.json  there is one: the bundle was whole when it was written
    store/partial/<sha256>                a download under way; its length is what was received
    store/factory/<model>                 the bundle that is never removed

Written by the download (a child process) and read by the core; the simulator puts its own disk beneath the same code.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from skerry_agent.disk import Disk, replace_file
from skerry_agent.errors import StorageError
from skerry_contracts import codec, names
from skerry_contracts.bundle import Blob, Manifest, Variant
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError

BLOBS = "store/blobs"
BUNDLES = "store/bundles"
PARTIAL = "store/partial"
FACTORY = "store/factory"


@functools.lru_cache(maxsize=32)
def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest that bytes hold; the same bytes are read once.

    Raises:
        ContractError: not a manifest.
    """
    return codec.decode(Manifest, data)


class Store:
    """Blobs and bundles on a disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def prepare(self) -> None:
        """Create the folders."""
        for folder in (BLOBS, BUNDLES, PARTIAL, FACTORY):
            self.disk.mkdir(folder)

    def manifest(self, bundle: str) -> Manifest | None:
        """Return an installed bundle's manifest; None where it is not there, or not what its name says."""
        try:
            return self._manifest(bundle)
        except StorageError:  # what cannot be read is not there: something else serves meanwhile
            return None

    def _manifest(self, bundle: str) -> Manifest | None:
        data = self.disk.read(f"{BUNDLES}/{bundle}/manifest.json")
        try:
            return parse_manifest(data) if data is not None and codec.digest(data) == bundle else None
        except ContractError:
            return None

    def bundles(self) -> list[str]:
        """Return the ids of the bundles that have a manifest."""
        return [
            name for name in self.disk.names(BUNDLES) if self.disk.size(f"{BUNDLES}/{name}/manifest.json") is not None
        ]

    def missing(self, blobs: Iterable[Blob]) -> list[Blob]:
        """Return the blobs that are still to be fetched."""
        return [blob for blob in blobs if self.disk.size(f"{BLOBS}/{blob.sha256}") != blob.size_bytes]

    def check(self, manifest: Manifest, variant: Variant) -> None:
        """Check by digest that everything one variant and the golden vectors need is here, as it was written.

        Raises:
            StorageError: a blob is missing (STORAGE) or changed (CORRUPT); a changed one is removed, to be fetched
            again.
        """
        for blob in needed(manifest, [variant]):
            path = f"{BLOBS}/{blob.sha256}"
            found = self.disk.digest(path)
            if found == blob.sha256:
                continue
            if found is not None:
                self.disk.unlink(path)
            reason = Reason.STORAGE if found is None else Reason.CORRUPT
            raise StorageError(f"blob {blob.sha256[:12]} is {'missing' if found is None else 'damaged'}", reason=reason)

    def discard_damaged(self, manifest: Manifest) -> list[str]:
        """Remove those of a bundle's blobs that are no longer what their names say, and return them: what is not here
        is fetched again, and what another installed bundle shares with this one is gone with it.
        """
        found = []
        for sha256 in manifest.blobs():
            if self.disk.digest(f"{BLOBS}/{sha256}") not in (None, sha256):
                self.disk.unlink(f"{BLOBS}/{sha256}")
                found.append(sha256)
        return found

    def partial_bytes(self, blob: Blob) -> int:
        """Return how much of a download is here; too much counts as nothing."""
        size = self.disk.size(f"{PARTIAL}/{blob.sha256}") or 0
        return size if size <= blob.size_bytes else 0

    def reserve(self, blob: Blob) -> None:
        """Reserve the space of a download before its first byte."""
        self.disk.reserve(f"{PARTIAL}/{blob.sha256}", blob.size_bytes)

    def append(self, blob: Blob, offset: int, data: bytes) -> None:
        """Write a piece of a download."""
        self.disk.write(f"{PARTIAL}/{blob.sha256}", data, offset)

    def discard(self, blob: Blob) -> None:
        """Forget a download."""
        self.disk.unlink(f"{PARTIAL}/{blob.sha256}")

    def finish(self, blob: Blob) -> None:
        """Turn a complete download into a blob: fsync, rename, fsync of the folder; then it is there for good.

        Raises:
            StorageError: it cannot be made durable, or its digest is not its name (CORRUPT); the download is forgotten.
        """
        partial = f"{PARTIAL}/{blob.sha256}"
        if blob.size_bytes == 0 and self.disk.size(partial) is None:
            self.disk.write(partial, b"")
        try:
            self.disk.fsync(partial)
        except StorageError:
            # After an error the kernel may call the lost pages clean: what is read back then proves nothing, and a
            # second fsync succeeds (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
            self.disk.unlink(partial)
            raise
        if self.disk.digest(partial) != blob.sha256:
            self.disk.unlink(partial)
            raise StorageError(f"blob {blob.sha256[:12]} has another digest", reason=Reason.CORRUPT)
        self.disk.rename(partial, f"{BLOBS}/{blob.sha256}")
        self.disk.fsync_dir(BLOBS)

    def put_blob(self, data: bytes) -> Blob:
        """Write a blob whose bytes are at hand."""
        blob = Blob(codec.digest(data), len(data))
        if self.missing([blob]):
            self.append(blob, 0, data)
            self.finish(blob)
        return blob

    def put_manifest(self, data: bytes) -> str:
        """Write a manifest, after all its blobs; returns the bundle's id."""
        bundle = codec.digest(data)
        self.disk.mkdir(f"{BUNDLES}/{bundle}")
        replace_file(self.disk, f"{BUNDLES}/{bundle}/manifest.json", data)
        return bundle

    def mark_factory(self, model: str, bundle: str) -> None:
        """Make an installed bundle the one that is never removed."""
        replace_file(self.disk, f"{FACTORY}/{names.name(model, 'model')}", bundle.encode())

    def factory(self) -> dict[str, str]:
        """Return the factory bundle of each model that has one which can be read.

        Raises:
            StorageError: nobody can say which have one.
        """
        found = {}
        for model in self.marks():
            try:
                bundle = (self.disk.read(f"{FACTORY}/{model}") or b"").decode("ascii", "replace")
            except StorageError:
                continue
            if self.manifest(bundle) is not None:
                found[model] = bundle
        return found

    def marked(self) -> dict[str, str]:
        """Return the bundle that each model's mark names as its factory bundle, whether it can be read or not.

        Raises:
            StorageError: a mark cannot be read: nobody can say what must stay.
        """
        return {each: (self.disk.read(f"{FACTORY}/{each}") or b"").decode("ascii", "replace") for each in self.marks()}

    def marks(self) -> list[str]:
        """Return the models that have a factory bundle, readable or not."""
        return [name for name in self.disk.names(FACTORY) if not name.endswith(".new")]  # .new: left by a power cut

    def remove(self, bundle: str, spare: Iterable[str] = ()) -> int:
        """Remove one bundle and the blobs that no other bundle here needs, nor `spare` (digests); downloads stay.

        Returns how many bytes of blobs that freed. The manifest goes first, as in `collect`.
        """
        manifest = self.manifest(bundle)
        if manifest is None or bundle in self.marked().values():
            return 0
        self.disk.unlink(f"{BUNDLES}/{bundle}/manifest.json")
        others = [found for name in self.bundles() if (found := self._manifest(name)) is not None]
        used = {*spare, *(digest for other in others for digest in other.blobs())}
        freed = 0
        for digest in manifest.blobs():
            if digest not in used and (size := self.disk.size(f"{BLOBS}/{digest}")) is not None:
                self.disk.unlink(f"{BLOBS}/{digest}")
                freed += size
        return freed

    def collect(self, keep: set[str], *, blobs: bool = True) -> list[str]:
        """Remove bundles not in `keep`; with `blobs` (while no download runs) also blobs that none of the kept needs,
        and all downloads.

        The manifest goes first: a bundle without one is not there, whatever its blobs. Returns the ids of removed
        bundles.

        Raises:
            StorageError: the disk fails; nothing is removed while the factory's marks cannot be read, and no blob while
            a kept manifest cannot.
        """
        keep = keep | set(self.marked().values())
        gone = [bundle for bundle in self.disk.names(BUNDLES) if bundle not in keep]
        for bundle in gone:
            folder = f"{BUNDLES}/{bundle}"
            for name in self.disk.names(folder):
                self.disk.unlink(f"{folder}/{name}")
            self.disk.rmdir(folder)
        if gone:
            settle(self.disk, BUNDLES)
        if not blobs:
            return gone
        manifests = [manifest for bundle in keep if (manifest := self._manifest(bundle)) is not None]
        used = {digest for manifest in manifests for digest in manifest.blobs()}
        unused = [name for name in self.disk.names(BLOBS) if name not in used]
        for folder, leaving in ((BLOBS, unused), (PARTIAL, self.disk.names(PARTIAL))):
            for name in leaving:
                self.disk.unlink(f"{folder}/{name}")
            if leaving:
                settle(self.disk, folder)
        return gone


def settle(disk: Disk, folder: str) -> None:
    """Make what left a folder stay away: else a power cut may bring back all that ever left it, at once.

    Raises:
        StorageError: the disk fails.
    """
    disk.fsync_dir(folder)


def prune(store: Store, wanted: set[str]) -> None:
    """Remove downloads that do not belong to what is being fetched (`wanted`: digests of its blobs), where there are
    more of them than that: left of orders that newer ones replaced. A few stay: a delta's own download has a name that
    only the fleet knows.

    Raises:
        StorageError: the disk fails.
    """
    strange = [name for name in store.disk.names(PARTIAL) if name not in wanted]
    if len(strange) <= len(wanted):
        return
    for name in strange:
        store.disk.unlink(f"{PARTIAL}/{name}")
    settle(store.disk, PARTIAL)


def needed(manifest: Manifest, variants: Iterable[Variant]) -> list[Blob]:
    """Return the blobs that some variants and the golden vectors need, each once."""
    found = [manifest.golden.inputs, manifest.golden.outputs]
    found += [blob for variant in variants for blob in variant.blobs.values()]
    return list({blob.sha256: blob for blob in found}.values())
