"""Blobs from their difference to what this device already has, where the fleet offers one that is small enough.

Nothing here is trusted: the result is a blob like any other, kept only if its digest is its name. Whatever fails
(no base, no offer, no space, a damaged delta) ends in the full download.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

from skerry_agent.errors import AgentError, NetworkError, TrustError
from skerry_agent.store import BLOBS, BUNDLES, Store
from skerry_agent.trust import zstd
from skerry_agent.trust.transfer import Fleet
from skerry_contracts import codec, delta
from skerry_contracts.bundle import Blob, Manifest
from skerry_contracts.delta import DeltaOffer
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError

LOG = logging.getLogger("skerry.agent.deltas")
LEAST_BYTES = 8192  # below this a request costs more than it saves
LEAST_MANIFEST_BYTES = 2048
MAX_BASES = 4


def bases(store: Store, manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Return for each of a bundle's blobs the digests of installed ones in the same role, the likeliest first."""
    installed = [each for bundle in store.bundles() if (each := store.manifest(bundle)) is not None]
    olds = sorted((each for each in installed if each.model == manifest.model), key=lambda each: -each.release)
    found: dict[str, tuple[str, ...]] = {}
    for variant in manifest.variants:
        for role, blob in variant.blobs.items():
            pairs = [
                (old.id != variant.id, old.blobs[role].sha256)
                for each in olds
                for old in each.variants
                if role in old.blobs
            ]
            same_first = dict.fromkeys(digest for _, digest in sorted(pairs, key=lambda pair: pair[0]))
            have = [each for each in same_first if each != blob.sha256 and store.disk.size(f"{BLOBS}/{each}")]
            found[blob.sha256] = tuple(have[:MAX_BASES])
    return found


def offer(fleet: Fleet, blob: Blob, known: Iterable[str]) -> DeltaOffer | None:
    """Return the fleet's best delta to a blob from one of these; None where it has none, or cannot say."""
    methods = [delta.TENSOR, *([delta.ZSTD] if zstd.library() is not None else [])]
    query = urlencode([("base", each) for each in known] + [("method", each) for each in methods])
    try:
        found = codec.decode(DeltaOffer, fleet.get(f"/deltas/{blob.sha256}?{query}"))
    except (NetworkError, ContractError):
        return None
    return (
        found if found.base in set(known) and found.method in methods and found.size_bytes < blob.size_bytes else None
    )


def apply(store: Store, offered: DeltaOffer, blob: Blob) -> bool:
    """Make a blob from its base and a delta that is in the store, and say whether that succeeded."""
    try:
        base = store.disk.read(f"{BLOBS}/{offered.base}")
        packed = store.disk.read(f"{BLOBS}/{offered.sha256}")
        if base is None or packed is None:
            return False
        header, body = delta.split(packed)
        if (header.base, header.target, header.size_bytes) != (offered.base, blob.sha256, blob.size_bytes):
            raise TrustError("a delta for something else", reason=Reason.CORRUPT)
        offset = 0
        for piece in _pieces(header, base, body):
            if offset + len(piece) > blob.size_bytes:
                raise TrustError("a delta that gives too much", reason=Reason.CORRUPT)
            store.append(blob, offset, piece)
            offset += len(piece)
        store.finish(blob)
        return True
    except (AgentError, ContractError) as error:
        LOG.warning("delta to %s: %s", blob.sha256[:12], error)
        store.discard(blob)
        return False
    finally:
        store.disk.unlink(f"{BLOBS}/{offered.sha256}")


def manifest(store: Store, fleet: Fleet, model: str, bundle: str, size_bytes: int) -> bytes | None:
    """Return a bundle's manifest, made from an installed one of the same model; None where that does not succeed."""
    olds = [(each.release, name) for name in store.bundles() if (each := store.manifest(name)) and each.model == model]
    known = [name for _, name in sorted(olds, reverse=True)[:MAX_BASES] if name != bundle]
    offered = offer(fleet, Blob(bundle, size_bytes), known) if known else None
    base = store.disk.read(f"{BUNDLES}/{offered.base}/manifest.json") if offered is not None else None
    if offered is None or base is None:
        return None
    try:
        header, body = delta.split(fleet.get(f"/blobs/{offered.sha256}", max_bytes=offered.size_bytes))
        if header.method != delta.ZSTD:
            return None
        found = bytearray()
        for piece in zstd.restored(base, bytes(body)):
            found += piece
            if len(found) > size_bytes:
                return None
    except (AgentError, ContractError) as error:
        LOG.warning("delta to manifest %s: %s", bundle[:12], error)
        return None
    made = bytes(found)
    return made if codec.digest(made) == bundle else None


def _pieces(header: delta.Delta, base: bytes, body: memoryview) -> Iterator[bytes]:
    if header.method == delta.ZSTD:
        return zstd.restored(base, bytes(body))
    if len(base) != header.size_bytes:
        raise TrustError("a tensor delta from another length", reason=Reason.CORRUPT)
    return delta.restored(memoryview(base), body, header.width)
