"""Blobs by digest, from the fleet into the store: space reserved first, as a difference to what is here where that is
smaller, resumed where they broke off, checked whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skerry_agent.errors import NetworkError, StorageError, TrustError
from skerry_agent.store import Store, parse_manifest
from skerry_agent.trust import deltas
from skerry_agent.trust.transfer import Fleet
from skerry_contracts.bundle import Blob
from skerry_contracts.device import Reason

REPORT_BYTES = 1024 * 1024  # downloads below this say nothing on their way


def fetch_bundle(
    store: Store, fleet: Fleet, manifest: bytes, blobs: Sequence[Blob], report: Callable[[int, int], None]
) -> int:
    """Put the blobs and then the manifest into the store, durably; returns the bytes that came over the network.

    `report` hears of received and total bytes, about four times.

    Raises:
        NetworkError: cut off or refused; what was received stays for the next attempt.
        StorageError: no space, or a failing disk.
        TrustError: CORRUPT, a blob is not what its name says, even fetched from its first byte.
    """
    store.prepare()
    missing = store.missing(blobs)
    for blob in missing:
        store.reserve(blob)
    total = sum(blob.size_bytes for blob in missing)
    teller = _Teller(total, sum(store.partial_bytes(blob) for blob in missing), report)
    known = deltas.bases(store, parse_manifest(manifest))
    for blob in missing:
        if not _fetch_delta(store, fleet, blob, known.get(blob.sha256, ()), teller):
            _fetch_blob(store, fleet, blob, teller)
    store.put_manifest(manifest)
    return teller.transferred


class _Teller:
    """Reports quarters of a large download."""

    def __init__(self, total: int, received: int, report: Callable[[int, int], None]) -> None:
        self.transferred = 0
        self._total, self._received, self._report = total, received, report
        self._quarter = 4 * received // total if total else 0

    def add(self, size_bytes: int) -> None:
        self.transferred += size_bytes
        self._received += size_bytes
        quarter = 4 * self._received // self._total if self._total else 0
        if self._quarter < quarter < 4 and self._total >= REPORT_BYTES:
            self._report(self._received, self._total)
        self._quarter = quarter


def _fetch_delta(store: Store, fleet: Fleet, blob: Blob, known: Sequence[str], teller: _Teller) -> bool:
    """Make a blob from a delta, and say whether that succeeded. A download that has begun is rather finished.

    Raises:
        NetworkError: the delta's own download was cut off; what was received of it stays for the next attempt.
    """
    if not known or blob.size_bytes < deltas.LEAST_BYTES or store.partial_bytes(blob):
        return False
    offered = deltas.offer(fleet, blob, known)
    if offered is None:
        return False
    packed = Blob(offered.sha256, offered.size_bytes)
    try:
        store.reserve(packed)
        _fetch_blob(store, fleet, packed, teller)
    except (StorageError, TrustError):
        store.discard(packed)
        return False
    return deltas.apply(store, offered, blob)


def _fetch_blob(store: Store, fleet: Fleet, blob: Blob, teller: _Teller) -> None:
    resumed = store.partial_bytes(blob) > 0
    try:
        _receive(store, fleet, blob, teller)
        store.finish(blob)
    except StorageError as error:
        if error.reason != Reason.CORRUPT:
            raise
        if not resumed:
            raise TrustError(str(error), reason=Reason.CORRUPT) from error
        _receive(store, fleet, blob, teller)  # the beginning may have been torn by a power cut: once from the start
        _finish_or_refuse(store, blob)


def _receive(store: Store, fleet: Fleet, blob: Blob, teller: _Teller) -> None:
    offset = store.partial_bytes(blob)
    if offset == blob.size_bytes:
        return
    offset, pieces = fleet.stream(f"/blobs/{blob.sha256}", max_bytes=blob.size_bytes, offset=offset)
    for piece in pieces:
        store.append(blob, offset, piece)
        offset += len(piece)
        teller.add(len(piece))
    if offset != blob.size_bytes:
        raise NetworkError(f"blob {blob.sha256[:12]}: {offset} of {blob.size_bytes} bytes came")


def _finish_or_refuse(store: Store, blob: Blob) -> None:
    try:
        store.finish(blob)
    except StorageError as error:
        if error.reason == Reason.CORRUPT:
            raise TrustError(str(error), reason=Reason.CORRUPT) from error
        raise
