"""Blobs on disk by digest: `<root>/blobs/ab/ab12...`. A file is there whole or not at all, whenever the power goes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from skerry_contracts import names
from skerry_fleet.errors import InputError, UnavailableError
from skerry_fleet.trust import durable


class BlobStore:
    """Content-addressed files under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            durable.make_dirs(root)
        except OSError as error:
            raise UnavailableError(
                f"cannot make {root}: {error.strerror}", hint="check the disk and its rights"
            ) from error

    def path(self, sha256: str) -> Path:
        """Return where a blob lies, if it does. `sha256` is checked, so that no path leaves the folder."""
        names.sha256(sha256)
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether a blob of this size is here."""
        path = self.path(sha256)
        return path.is_file() and path.stat().st_size == size_bytes

    def put(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Keep a blob: write aside, fsync, rename, fsync the folder.

        Raises:
            InputError: the bytes are not those the digest names; nothing is kept.
            UnavailableError: the disk is full, read-only or failing; nothing is kept.
        """
        path = self.path(sha256)
        # Bundles that are uploaded at the same time may share a blob: each is written aside by itself.
        temporary = path.with_name(f".{sha256}.{os.getpid()}-{threading.get_ident()}.new")
        try:
            durable.make_dirs(path.parent)
            running = hashlib.sha256()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    running.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if running.hexdigest() != sha256:
                raise InputError(f"blob {sha256[:12]}: content does not match its digest")
            temporary.replace(path)
            durable.sync_dir(path.parent)
        except OSError as error:
            raise UnavailableError(
                f"cannot keep blob {sha256[:12]}: {error.strerror}", hint="free disk space"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
