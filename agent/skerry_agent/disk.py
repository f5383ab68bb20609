"""The disk as the agent uses it: a few operations on paths below the root, each maybe the last before a power cut.

What is written is durable only after `fsync` of the file and, where a name appeared, moved or went, `fsync_dir` of
its folder (measured: write, fsync, rename, fsync of the folder lost nothing in 240 simulated cuts; each step left out
did). Simulators put a disk with exactly these semantics in the place of `RealDisk`.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from skerry_agent.errors import StorageError
from skerry_contracts.device import Reason

_FALLOC_FL_KEEP_SIZE = (
    1  # linux/falloc.h: reserve blocks, leave the length, so that length keeps meaning "received so far"
)


class Disk(Protocol):
    """Files below one root, by relative paths. All raise StorageError; a missing file is no error where it says so."""

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""

    def size(self, path: str) -> int | None:
        """Return a file's length in bytes; None where there is no such file."""

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Write bytes at an offset and cut what stood behind it; creates the file. Not durable before `fsync`."""

    def reserve(self, path: str, size_bytes: int) -> None:
        """Reserve blocks for a file, without changing its length; creates the file. Raises StorageError(NO_SPACE)."""

    def fsync(self, path: str) -> None:
        """Make a file's content durable."""

    def fsync_dir(self, path: str) -> None:
        """Make a folder's names durable."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing what has it."""

    def unlink(self, path: str) -> None:
        """Remove a file; no error where there is none."""

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of a file's content in hex; None where there is no such file."""

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; empty where there is no such folder."""

    def mkdir(self, path: str) -> None:
        """Create a folder (and those above it), durably; no error where there is one."""

    def rmdir(self, path: str) -> None:
        """Remove an empty folder; no error where there is none, or where it is not empty."""

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""


def replace_file(disk: Disk, path: str, data: bytes) -> None:
    """Write a whole file so that after any power cut either the old or the new content is there, never a part."""
    temporary = f"{path}.new"
    disk.write(temporary, data)
    disk.fsync(temporary)
    disk.rename(temporary, path)
    disk.fsync_dir(path.rpartition("/")[0])


class RealDisk:
    """The file system below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, path: str) -> Path:
        """Return the real path of a relative one."""
        return self.root / path

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""
        with _mapped(path):
            try:
                return self.path(path).read_bytes()
            except FileNotFoundError:
                return None

    def size(self, path: str) -> int | None:
        """Return a file's length; None where there is no such file."""
        with _mapped(path):
            try:
                return self.path(path).stat().st_size
            except FileNotFoundError:
                return None

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Write bytes at an offset and cut what stood behind it."""
        with _mapped(path), _opened(self.path(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC) as file:
            if os.fstat(file).st_size > offset:  # truncating to the same length would give reserved blocks back
                os.ftruncate(file, offset)
            view = memoryview(data)
            while view:
                written = os.pwrite(file, view, offset)
                offset, view = offset + written, view[written:]

    def reserve(self, path: str, size_bytes: int) -> None:
        """Reserve blocks with fallocate(2); a file system that cannot is no error."""
        if size_bytes <= 0:
            return
        with _mapped(path), _opened(self.path(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC) as file:
            library = ctypes.CDLL(None, use_errno=True)
            allocate = getattr(library, "fallocate64", None) or library.fallocate
            allocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
            if allocate(file, _FALLOC_FL_KEEP_SIZE, 0, size_bytes) != 0:
                code = ctypes.get_errno()
                if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
                    raise OSError(code, os.strerror(code))

    def fsync(self, path: str) -> None:
        """Make a file's content durable."""
        with _mapped(path), _opened(self.path(path), os.O_RDONLY | os.O_CLOEXEC) as file:
            os.fsync(file)

    def fsync_dir(self, path: str) -> None:
        """Make a folder's names durable."""
        with _mapped(path), _opened(self.path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as file:
            os.fsync(file)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        with _mapped(old):
            self.path(old).rename(self.path(new))

    def unlink(self, path: str) -> None:
        """Remove a file; no error where there is none."""
        with _mapped(path):
            self.path(path).unlink(missing_ok=True)

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of a file's content, read in pieces."""
        with _mapped(path):
            try:
                with self.path(path).open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None

    def names(self, path: str) -> list[str]:
        """Return the names in a folder."""
        with _mapped(path):
            try:
                return sorted(entry.name for entry in self.path(path).iterdir())
            except FileNotFoundError:
                return []

    def mkdir(self, path: str) -> None:
        """Create a folder and those above it, durably."""
        with _mapped(path):
            missing = []
            here = self.path(path)
            while not here.is_dir():
                missing.append(here)
                here = here.parent
            for each in reversed(missing):
                each.mkdir(mode=0o700, exist_ok=True)
                with _opened(each.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as file:
                    os.fsync(file)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        with _mapped(path):
            try:
                self.path(path).rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def free_bytes(self) -> int:
        """Return the bytes that an unprivileged writer may still use."""
        with _mapped("."):
            found = os.statvfs(self.root)
            return found.f_bavail * found.f_frsize


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags, 0o600)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _mapped(path: str) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "free some space" if full else "check the disk and the folder's owner and mode"
        reason = Reason.NO_SPACE if full else Reason.STORAGE
        raise StorageError(f"{path}: {error.strerror}", reason=reason, hint=hint) from error
