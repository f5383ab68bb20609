"""A file tree in memory that becomes a tar archive or a folder: the same tree gives the same bytes on any machine.

Nothing here needs root: owners and modes are in the archive, not on a disk.
"""

from __future__ import annotations

import dataclasses
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from skerry_simulators.errors import SimulatorError

# Debian's merged /usr (https://wiki.debian.org/UsrMerge): packages may still name the old places.
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DIRECTORY, _FILE, _LINK = "directory", "file", "link"


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A directory, a file with its bytes, or a symbolic link with its target; with mode and owner."""

    kind: str
    mode: int
    data: bytes = b""
    target: str = ""
    owner: int = 0


class Tree:
    """Paths (relative, without `.` or `..`) and what lies there."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Yield path and node, sorted by path: parents before their children."""
        return iter(sorted(self._nodes.items()))

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __getitem__(self, path: str) -> Node:
        return self._nodes[path]

    @property
    def size_bytes(self) -> int:
        """What all files hold together."""
        return sum(len(node.data) for node in self._nodes.values())

    def directory(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        """Add a directory, and those above it where there are none."""
        path = clean(path)
        self._above(path)
        self._nodes[path] = Node(_DIRECTORY, mode, owner=owner)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file, and the directories above it."""
        path = clean(path)
        self._above(path)
        self._nodes[path] = Node(_FILE, mode, data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link, and the directories above it."""
        path = clean(path)
        self._above(path)
        self._nodes[path] = Node(_LINK, 0o777, target=target)

    def remove(self, unwanted: Callable[[str], bool]) -> None:
        """Remove every path that is unwanted, and all below it."""
        gone = {path for path in self._nodes if unwanted(path)}
        for path in list(self._nodes):
            if any(each in gone for each in _upward(path)):
                del self._nodes[path]

    def merge(self, other: Tree) -> None:
        """Take over everything of another tree; a directory that is here already keeps mode and owner."""
        for path, node in other:
            if node.kind != _DIRECTORY or path not in self._nodes:
                self._nodes[path] = node

    def unpack(self, archive: bytes | io.BufferedIOBase) -> None:
        """Take over a tar archive; owners become root, set-user-id and set-group-id bits go, devices are left out.

        Raises:
            SimulatorError: a path or hard link leads outside, or it is no archive.
        """
        stream = io.BytesIO(archive) if isinstance(archive, bytes) else archive
        try:
            with tarfile.open(fileobj=stream, mode="r:*") as tar:
                for member in tar:
                    self._take(tar, member)
        except tarfile.TarError as error:
            raise SimulatorError(f"no sound archive: {error}", hint="remove it and try again") from error

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = merged(clean(member.name))
        if not path:
            return
        if member.isdir():
            if path not in self._nodes and path not in MERGED:
                self.directory(path, member.mode & 0o1777)
        elif member.issym():
            if path not in MERGED or member.linkname.strip("/") != f"usr/{path}":
                self.link(path, member.linkname)
        elif member.islnk():
            source = merged(clean(member.linkname))
            if source not in self._nodes:
                raise SimulatorError(f"{path} is a hard link to {source}, which is not there", hint="remove it")
            self._above(path)
            self._nodes[path] = self._nodes[source]
        elif member.isfile():
            opened = tar.extractfile(member)
            assert opened is not None
            self.file(path, opened.read(), member.mode & 0o777)

    def _above(self, path: str) -> None:
        parent = posixpath.dirname(path)
        while parent and parent not in self._nodes:
            self._nodes[parent] = Node(_DIRECTORY, 0o755)
            parent = posixpath.dirname(parent)

    def tar(self, time_s: int) -> bytes:
        """Return it as an uncompressed POSIX.1-2001 archive: sorted, one time for all, owners by number only."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, node in self:
                info = tarfile.TarInfo(path)
                info.mode, info.mtime, info.uid, info.gid = node.mode, time_s, node.owner, node.owner
                if node.kind == _DIRECTORY:
                    info.type = tarfile.DIRTYPE
                elif node.kind == _LINK:
                    info.type, info.linkname = tarfile.SYMTYPE, node.target
                info.size = len(node.data)
                archive.addfile(info, io.BytesIO(node.data))
        return stream.getvalue()

    def write(self, folder: Path) -> None:
        """Write it below a folder, as this user's: what owners there are is lost."""
        for path, node in self:
            place = folder / path
            if node.kind == _DIRECTORY:
                place.mkdir(parents=True, exist_ok=True)
            elif node.kind == _LINK:
                place.unlink(missing_ok=True)
                place.symlink_to(node.target)
            else:
                place.write_bytes(node.data)
                place.chmod(node.mode | 0o600)


def clean(path: str) -> str:
    """Return a member's path as a tree names it.

    Raises:
        SimulatorError: it leads outside.

    >>> clean("./usr/bin/")
    'usr/bin'
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SimulatorError(f"the path {path!r:.120} leads outside", hint="do not use this archive")
    return "/".join(parts)


def merged(path: str) -> str:
    """Return where a path lies in a system with merged /usr.

    >>> merged("lib/ld-linux.so.3"), merged("usr/lib/x"), merged("library")
    ('usr/lib/ld-linux.so.3', 'usr/lib/x', 'library')
    """
    first, slash, _ = path.partition("/")
    return f"usr/{path}" if slash and first in MERGED else path


def _upward(path: str) -> Iterator[str]:
    while path:
        yield path
        path = posixpath.dirname(path)
