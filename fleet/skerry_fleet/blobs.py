"""Blobs by digest, in a folder (`<root>/blobs/ab/ab12...`) or in an object store: there whole or not at all.

What the rest of the fleet asks of either is `Blobs`; docs/adr/0011 says why the object store is spoken to as it is.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from skerry_contracts import names
from skerry_fleet.errors import InputError, MissingError, UnavailableError
from skerry_fleet.trust import durable

if TYPE_CHECKING:
    from skerry_fleet.config import FleetConfig

PIECE_BYTES = 1 << 18


class Blobs(Protocol):
    """Where blobs are kept. Every method may raise UnavailableError: the disk or the store does not answer."""

    def size(self, sha256: str) -> int | None:
        """Return a blob's size; None: it is not here."""

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether a blob of this size is here."""

    def put(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Keep a blob.

        Raises:
            InputError: the bytes are not those the digest names; nothing is kept.
        """

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return a blob's bytes from `start` up to `end`, piece by piece.

        Raises:
            MissingError: it is not here.
        """

    def all(self) -> Iterator[str]:
        """Return every blob's digest, sorted."""

    def path(self, sha256: str) -> Path | None:
        """Return where a blob lies on this machine, if it does; None: elsewhere."""

    def link(self, sha256: str) -> str:
        """Return an address at which anyone may fetch a blob for some minutes; empty: there is none."""


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

    def size(self, sha256: str) -> int | None:
        """Return a blob's size; None: it is not here."""
        path = self.path(sha256)
        return path.stat().st_size if path.is_file() else None

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether a blob of this size is here."""
        return self.size(sha256) == size_bytes

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

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return a blob's bytes from `start` up to `end`, piece by piece.

        Raises:
            MissingError: it is not here.
        """
        try:
            with self.path(sha256).open("rb") as file:
                left = (os.fstat(file.fileno()).st_size if end is None else end) - file.seek(start)
                while left > 0 and (piece := file.read(min(left, PIECE_BYTES))):
                    left -= len(piece)
                    yield piece
        except FileNotFoundError as error:
            raise MissingError(f"no blob {sha256[:12]}") from error

    def all(self) -> Iterator[str]:
        """Return every blob's digest, sorted; not those that are half written."""
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir():
                yield from sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))

    def link(self, sha256: str) -> str:
        """Return nothing: a folder has no address."""
        return ""


def open_blobs(config: FleetConfig) -> Blobs:
    """Return where a fleet keeps its blobs: `blob_url`, or the folder in its root.

    Raises:
        InputError: an address that leads nowhere.
        UnavailableError: the folder cannot be made.
    """
    if not config.blob_url:
        return BlobStore(config.root / "blobs")
    parts = urlsplit(config.blob_url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return BlobStore(Path(unquote(parts.path)))
    if parts.scheme in ("s3", "gs", "az") and parts.netloc:
        from skerry_fleet.objects import ObjectBlobs  # 15 MB that a folder needs not

        return ObjectBlobs(config.blob_url, config.root, config.blob_secret_file)
    raise InputError(
        f"blob_url {config.blob_url!r:.80} leads nowhere",
        hint="such as s3://bucket/prefix?endpoint=https://s3.example, or file:///srv/blobs",
    )


def read(blobs: Blobs, sha256: str) -> bytes:
    """Return a blob's content.

    Raises:
        MissingError, UnavailableError: see `Blobs.pieces`.
    """
    return b"".join(blobs.pieces(sha256))
