"""Deltas between published bundles: made once, after publishing, in the background; offered to devices by digest.

For every blob of a new bundle, against the blobs of the same role in the model's newest earlier bundles for the same
target: a `tensor` delta where the lengths agree, and a `zstd` patch; for its manifest a patch from theirs. What saves
less than a third is not kept. Only what was prepared is ever offered, so that no device can make the fleet compute.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Iterable
from pathlib import Path

from sqlmodel import col, select

from skerry_contracts import codec, delta
from skerry_contracts.bundle import Manifest
from skerry_contracts.delta import Delta, DeltaOffer
from skerry_contracts.errors import ContractError
from skerry_fleet import zstd
from skerry_fleet.blobs import Blobs, read
from skerry_fleet.database import Database
from skerry_fleet.errors import FleetError
from skerry_fleet.tables import Bundle, BundleState
from skerry_fleet.trust import durable

log = logging.getLogger(__name__)
EARLIER = 3
MAX_BLOB_BYTES = 256 << 20
LEAST_BYTES = 8192
LEAST_MANIFEST_BYTES = 2048
USEFUL_SHARE = 0.67
SAMPLE_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True, slots=True)
class Offers:
    """All deltas to one blob, smallest first."""

    offers: tuple[DeltaOffer, ...]


class Deltas:
    """The deltas of one fleet: an index file for each target, and the deltas themselves among the blobs."""

    def __init__(self, folder: Path, blobs: Blobs, database: Database) -> None:
        self._folder, self._blobs, self._database = folder, blobs, database
        self._waiting: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    def prepare(self, tenant: str, bundle: str) -> None:
        """Make the deltas to a bundle's blobs, soon."""
        self._waiting.put((tenant, bundle))
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="deltas", daemon=True)
            self._worker.start()

    def close(self) -> None:
        """Finish what waits, and end."""
        if self._worker is not None:
            self._waiting.put(None)
            self._worker.join()
            self._worker = None

    def offer(self, target: str, bases: Iterable[str], methods: Iterable[str]) -> DeltaOffer | None:
        """Return the smallest prepared delta to a blob from one of these bases by one of these methods."""
        known, able = set(bases), set(methods)
        found = self._load(target)
        return next((each for each in found if each.base in known and each.method in able), None)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            try:
                self._make_all(*job)
            except (OSError, FleetError, ContractError, MemoryError) as error:
                log.warning("deltas to bundle %s: %s", job[1][:12], error)

    def _make_all(self, tenant: str, bundle: str) -> None:
        with self._database.read() as session:
            row = session.get(Bundle, (tenant, bundle))
            if row is None:
                return
            query = select(Bundle).where(
                Bundle.tenant == tenant,
                Bundle.model == row.model,
                Bundle.target == row.target,
                Bundle.state == BundleState.PUBLISHED.value,
                Bundle.release < row.release,
            )
            rows = session.exec(query.order_by(col(Bundle.release).desc()).limit(EARLIER)).all()
            new = codec.decode(Manifest, row.manifest.encode())
            olds = [codec.decode(Manifest, each.manifest.encode()) for each in rows]
        for target, bases in pairs(new, olds).items():
            if not self._load(target):
                offers = [offer for base in bases for offer in self._make(base, target)]
                if offers:
                    self._keep(target, offers)
        if not self._load(bundle):
            offers = [offer for each in rows for offer in self._make_manifest(each, row)]
            if offers:
                self._keep(bundle, offers)

    def _make(self, base: str, target: str) -> list[DeltaOffer]:
        old, new = read(self._blobs, base), read(self._blobs, target)
        if not LEAST_BYTES <= len(new) <= MAX_BLOB_BYTES or len(old) > MAX_BLOB_BYTES:
            return []
        return self._put(base, made_from(base, old, target, new), len(new))

    def _make_manifest(self, old: Bundle, new: Bundle) -> list[DeltaOffer]:
        content = new.manifest.encode()
        if len(content) < LEAST_MANIFEST_BYTES:
            return []
        body = zstd.patch(old.manifest.encode(), content)
        packed = delta.join(Delta(old.id, new.id, len(content), delta.ZSTD), body)
        return self._put(old.id, [(delta.ZSTD, packed)], len(content))

    def _put(self, base: str, made: Iterable[tuple[str, bytes]], size_bytes: int) -> list[DeltaOffer]:
        """Keep the deltas that save enough, and return what can be said of them."""
        offers = []
        for method, packed in made:
            if len(packed) <= USEFUL_SHARE * size_bytes:
                sha256 = codec.digest(packed)
                self._blobs.put(sha256, [packed])
                offers.append(DeltaOffer(base, sha256, len(packed), method))
        return offers

    def _load(self, target: str) -> tuple[DeltaOffer, ...]:
        try:
            return codec.decode(Offers, self._path(target).read_bytes()).offers
        except (FileNotFoundError, ContractError):
            return ()

    def _keep(self, target: str, offers: list[DeltaOffer]) -> None:
        path = self._path(target)
        durable.make_dirs(path.parent)
        ordered = sorted(offers, key=lambda each: (each.size_bytes, each.sha256))
        durable.write_file(path, codec.encode(Offers(tuple(ordered))))

    def _path(self, target: str) -> Path:
        return self._folder / target[:2] / f"{target}.json"


def pairs(new: Manifest, olds: Iterable[Manifest]) -> dict[str, list[str]]:
    """Return for each of a bundle's blobs those it may be made from: the same role, the same variant first."""
    found: dict[str, list[str]] = {}
    earlier = [variant for old in olds for variant in old.variants]
    for variant in new.variants:
        ordered = sorted(earlier, key=lambda each: each.id != variant.id)
        for role, blob in variant.blobs.items():
            bases = dict.fromkeys(each.blobs[role].sha256 for each in ordered if role in each.blobs)
            found[blob.sha256] = [each for each in bases if each != blob.sha256]
    return found


def made_from(base: str, old: bytes, target: str, new: bytes) -> list[tuple[str, bytes]]:
    """Return the deltas from one blob's content to another's, by method."""
    made = [(delta.ZSTD, delta.join(Delta(base, target, len(new), delta.ZSTD), zstd.patch(old, new)))]
    if len(old) == len(new):
        width = best_width(old, new)
        body = delta.difference(memoryview(old), memoryview(new), width)
        made.append((delta.TENSOR, delta.join(Delta(base, target, len(new), delta.TENSOR, width), body)))
    return made


def best_width(old: bytes, new: bytes) -> int:
    """Return the width of number that makes the smallest delta, judged on a sample around the middle."""
    start = max(0, len(new) // 2 - SAMPLE_BYTES // 2) // 4 * 4
    a, b = (memoryview(each)[start : start + SAMPLE_BYTES] for each in (old, new))
    return min(delta.WIDTHS, key=lambda width: len(delta.difference(a, b, width)))
