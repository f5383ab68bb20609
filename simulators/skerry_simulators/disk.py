"""A disk that forgets what it may forget: the agent's own `Disk` seam, with the semantics POSIX promises and no more.

Content is durable after `fsync` of the file. A name that appeared, moved or went is durable after `fsync_dir` of its
folder. At a power cut everything else may be there, may be gone, and content may be torn: the beginning new, then the
old bytes, zeros or nothing. (The reality of ext4 is milder; security.md measured 98 to 180 bad images of 120 to 180
where a step was left out.)
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from skerry_agent.errors import StorageError
from skerry_contracts.device import Reason
from skerry_simulators.power import Plug


class _File:
    """One file: what programs see, and what the medium holds for certain."""

    __slots__ = ("clean", "data", "durable", "reserved")

    def __init__(self) -> None:
        self.data = b""
        self.durable = b""
        self.reserved = 0
        self.clean = False  # the kernel believes it is written, after an error; the medium holds the old bytes

    @property
    def blocks(self) -> int:
        return max(len(self.data), self.reserved)


# One change of a folder's names: the name that goes (or None), the name that comes (or None), and the file it names.
_Change = tuple[str | None, str | None, _File | None]


class SimDisk:
    """Implements `skerry_agent.disk.Disk` in memory. `filler_bytes` is what other programs took of the
    capacity, `ledger_bytes` what the ledger did."""

    def __init__(self, plug: Plug, capacity_bytes: int) -> None:
        self.plug = plug
        self.capacity_bytes = capacity_bytes
        self.filler_bytes = 0
        self.ledger_bytes = 0
        self.read_only = False  # after an error of the medium, as ext4 does
        self.bad: Callable[[], bool] | None = None  # whether the medium fails the operation that is about to happen
        self.damaged: set[str] = set()  # names whose content rotted once
        self._files: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._changes: dict[str, list[_Change]] = {}
        self._folders: set[str] = {""}
        self._removed: set[str] = set()  # folders that may come back
        self._used = 0

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""
        file = self._files.get(path)
        if file is not None:
            self._medium("read", path)
        return None if file is None else file.data

    def size(self, path: str) -> int | None:
        """Return a file's length in bytes; None where there is no such file."""
        file = self._files.get(path)
        return None if file is None else len(file.data)

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Write bytes at an offset and cut what stood behind it; creates the file. Not durable before `fsync`."""
        self._begin("write", path)
        self._medium("write", path)
        file = self._create(path)
        file.clean = False
        self._grow(file, max(offset + len(data), file.reserved) - file.blocks, path)
        file.data = file.data[:offset].ljust(offset, b"\0") + bytes(data)

    def reserve(self, path: str, size_bytes: int) -> None:
        """Reserve blocks for a file, without changing its length; creates the file."""
        self._begin("reserve", path)
        file = self._create(path)
        self._grow(file, max(size_bytes, len(file.data)) - file.blocks, path)
        file.reserved = max(size_bytes, file.reserved)

    def fsync(self, path: str) -> None:
        """Make a file's content durable."""
        self._begin("fsync", path)
        file = self._existing(path)
        try:
            self._medium("fsync", path)
        except StorageError:
            file.clean = True
            raise
        if not file.clean:
            file.durable = file.data

    def fsync_dir(self, path: str) -> None:
        """Make a folder's names durable, and that folders left it, with all that was in them."""
        self._begin("fsync_dir", path)
        self._folder(path)
        left = {each for each in self._removed - self._folders if _parent(each) == path}
        self._removed -= left
        for folder in (path, *sorted(left)):
            for change in self._changes.pop(folder, ()):
                _apply(self._durable, change)
                self._forget(change)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing what has it. Across folders, the new folder's sync decides."""
        self._begin("rename", f"{old} {new}")
        file = self._existing(old)
        self._folder(_parent(new))
        replaced = self._files.get(new)
        if replaced is not None:
            self._used -= replaced.blocks
        self._change((old, new, file), _parent(new))

    def unlink(self, path: str) -> None:
        """Remove a file; no error where there is none."""
        self._begin("unlink", path)
        file = self._files.get(path)
        if file is not None:
            self._used -= file.blocks
            self._change((path, None, None), _parent(path))

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of a file's content in hex; None where there is no such file."""
        file = self._files.get(path)
        if file is not None:
            self._medium("read", path)
        return None if file is None else hashlib.sha256(file.data).hexdigest()

    def truth(self, path: str) -> bytes | None:
        """Return a file's content for those who watch; None where there is no such file."""
        file = self._files.get(path)
        return None if file is None else file.data

    def rot(self, rng: random.Random, folder: str) -> str | None:
        """Change one bit of a file below a folder that was safely written; return its name (None: there is none)."""
        safe = [path for path, file in sorted(self._files.items()) if path.startswith(f"{folder}/")]
        safe = [path for path in safe if self._files[path].data and self._files[path].data == self._files[path].durable]
        if not safe:
            return None
        path = rng.choice(safe)
        file, place = self._files[path], rng.randrange(len(self._files[path].data))
        file.data = bytes([*file.data[:place], file.data[place] ^ 1 << rng.randrange(8), *file.data[place + 1 :]])
        file.durable = file.data
        self.damaged.add(path)
        return path

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; empty where there is no such folder."""
        prefix = f"{path}/" if path else ""
        names = {each[len(prefix) :].split("/", 1)[0] for each in self._files if each.startswith(prefix)}
        names |= {each[len(prefix) :].split("/", 1)[0] for each in self._folders if each and each.startswith(prefix)}
        return sorted(names - {""})

    def mkdir(self, path: str) -> None:
        """Create a folder (and those above it), durably; no error where there is one."""
        if path in self._folders:
            return
        self._begin("mkdir", path)
        parts = path.split("/")
        self._folders |= {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}

    def rmdir(self, path: str) -> None:
        """Remove an empty folder; no error where there is none, or where it is not empty."""
        self._begin("rmdir", path)
        if path in self._folders and not self.names(path):
            self._folders.discard(path)
            self._removed.add(path)

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        return max(0, self.capacity_bytes - self.filler_bytes - self.ledger_bytes - self._used)

    def settle(self) -> None:
        """Make everything durable, as unmounting does."""
        for file in self._files.values():
            file.durable = file.data
        self._durable = dict(self._files)
        self._changes.clear()

    def power_cut(self, rng: random.Random) -> None:
        """Forget what was not durable, or part of it, as chance will have it."""
        for folder in sorted(self._changes):
            fate = rng.random()
            for change in self._changes[folder]:
                if rng.random() < fate:
                    _apply(self._durable, change)
        self._changes.clear()
        self._folders |= {path for path in sorted(self._removed) if rng.random() < 0.5}
        self._folders |= {_parent(path) for path in self._durable}
        self._removed.clear()
        for path in sorted(self._durable):
            file = self._durable[path]
            if file.data != file.durable:
                file.durable = _survivor(file, rng)
            file.data = file.durable
            file.reserved = 0
        self._files = dict(self._durable)
        self._used = sum(file.blocks for file in self._files.values())

    def _begin(self, kind: str, what: str) -> None:
        """Count an operation that changes something; a read-only file system refuses it."""
        self.plug.operation(kind, what)
        if self.read_only:
            raise StorageError(f"{what}: Read-only file system", hint="check the disk")

    def _medium(self, kind: str, path: str) -> None:
        if self.bad is not None and self.bad():
            raise StorageError(f"{path}: Input/output error ({kind})", hint="check the disk")

    def _existing(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            raise StorageError(f"{path}: No such file or directory", hint="this is a mistake of the program")
        return file

    def _folder(self, path: str) -> None:
        if path not in self._folders:
            raise StorageError(f"{path}: No such file or directory", hint="this is a mistake of the program")

    def _create(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            self._folder(_parent(path))
            file = _File()
            self._change((None, path, file), _parent(path))
        return file

    def _grow(self, file: _File, more_bytes: int, path: str) -> None:
        if more_bytes > 0 and more_bytes > self.free_bytes():
            raise StorageError(f"{path}: No space left on device", reason=Reason.NO_SPACE, hint="free some space")
        self._used += more_bytes

    def _change(self, change: _Change, folder: str) -> None:
        _apply(self._files, change)
        self._changes.setdefault(folder, []).append(change)

    def _forget(self, moved: _Change) -> None:
        """A name that went for certain to another folder cannot come back by what made it."""
        gone, come, file = moved
        folder = _parent(gone) if gone is not None and come is not None else ""
        if folder in self._changes:
            left = self._changes[folder]
            self._changes[folder] = [each for each in left if not (each[1] == gone and each[2] is file)]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _apply(names: dict[str, _File], change: _Change) -> None:
    gone, come, file = change
    if gone is not None:
        names.pop(gone, None)
    if come is not None and file is not None:
        names[come] = file


def _survivor(file: _File, rng: random.Random) -> bytes:
    """Return what the medium holds of a file that was written and not synced."""
    fate = rng.random()
    if fate < 0.3:
        return file.durable
    if fate < 0.6:
        return file.data
    cut = rng.randrange(len(file.data) + 1)
    tails = (b"", file.durable[cut:], bytes(len(file.data) - cut))
    return file.data[:cut] + tails[rng.randrange(3)]
