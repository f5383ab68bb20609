"""Files by their content: datasets, models, skops archives and bundles, each named by its SHA-256, written durably
once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from skerry_cloud.errors import DataError, NotFoundError
from skerry_contracts import names


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that after a power cut there is either all of it under its name, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def fresh_folder(parent: Path, name: str) -> Path:
    """Return a new empty folder for one attempt at `name`; folders of earlier attempts are removed.

    A child process that outlived its killed parent may still write into its folder: that must not be this one.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{name}.*"):
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=parent))


class FileStore:
    """A folder of files named by SHA-256, two levels deep."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Return where a file lies.

        Raises:
            NotFoundError: it is not here.
        """
        path = self._place(sha256)
        if not path.is_file():
            raise NotFoundError(f"no file {sha256[:12]}… in the registry", hint="was the registry's folder moved?")
        return path

    def put(self, data: bytes) -> str:
        """Keep bytes; return their SHA-256. Keeping the same bytes again writes nothing."""
        sha256 = hashlib.sha256(data).hexdigest()
        place = self._place(sha256)
        if not place.is_file():
            write_durably(place, data)
        return sha256

    def put_file(self, path: Path) -> str:
        """Keep a file's content; return its SHA-256."""
        try:
            return self.put(path.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error

    def read(self, sha256: str) -> bytes:
        """Return a file's bytes, checked against their name.

        Raises:
            NotFoundError: it is not here.
            DataError: the disk gave other bytes than were written.
        """
        data = self.path(sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(f"the file {sha256[:12]}… is damaged", hint="restore it from a copy")
        return data

    def _place(self, sha256: str) -> Path:
        names.sha256(sha256)
        return self.root / sha256[:2] / sha256
