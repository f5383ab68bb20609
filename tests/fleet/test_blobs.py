"""Blobs by digest: the same one may come twice at the same time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from skerry_fleet.blobs import BlobStore

CONTENT = b"golden vectors that two bundles share"


def test_two_uploads_of_one_blob_at_the_same_time_both_succeed(tmp_path: Path) -> None:
    store, digest = BlobStore(tmp_path), hashlib.sha256(CONTENT).hexdigest()
    both_began, one_is_done = threading.Barrier(2), threading.Event()

    def quick() -> Iterator[bytes]:
        both_began.wait()
        yield CONTENT

    def slow() -> Iterator[bytes]:
        yield CONTENT[:5]
        both_began.wait()
        one_is_done.wait()
        yield CONTENT[5:]

    with ThreadPoolExecutor() as pool:
        late = pool.submit(store.put, digest, slow())
        store.put(digest, quick())
        one_is_done.set()
        late.result()
    assert store.path(digest).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [digest]
