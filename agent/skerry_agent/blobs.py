"""Blobs as files: opened by their digest, checked on the very descriptor that is used afterwards."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from skerry_agent.errors import WorkerError
from skerry_contracts.bundle import Blob
from skerry_contracts.device import Reason

_HASH_CHUNK_BYTES = 1 << 20


def open_checked(blob_dir: Path, blob: Blob) -> int:
    """Return a descriptor of a blob whose content was just checked against its digest; the worker opens nothing else.

    Raises:
        WorkerError: missing, no plain file, or of another size or content than its name says.
    """
    path = blob_dir / blob.sha256
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise WorkerError(f"blob {blob.sha256[:12]} cannot be opened: {error.strerror}", reason=Reason.LOAD) from error
    try:
        status = os.fstat(descriptor)
        found, offset = hashlib.sha256(), 0
        if stat.S_ISREG(status.st_mode) and status.st_size == blob.size_bytes:
            while chunk := os.pread(descriptor, _HASH_CHUNK_BYTES, offset):
                found.update(chunk)
                offset += len(chunk)
        if found.hexdigest() != blob.sha256 or offset != blob.size_bytes:
            raise WorkerError(f"blob {blob.sha256[:12]} is not what its digest says", reason=Reason.CORRUPT)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
