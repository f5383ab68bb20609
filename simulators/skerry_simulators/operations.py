"""The real disk with a plug: its mutating operations are counted, and one of them can be the process's last."""

from __future__ import annotations

from pathlib import Path

from skerry_agent.disk import RealDisk
from skerry_simulators.power import Plug


class PluggedDisk(RealDisk):
    """A real disk whose every mutating operation passes the plug first."""

    def __init__(self, root: Path, plug: Plug) -> None:
        super().__init__(root)
        self.plug = plug

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Write bytes at an offset."""
        self.plug.operation("write", path)
        super().write(path, data, offset)

    def reserve(self, path: str, size_bytes: int) -> None:
        """Reserve blocks for a file."""
        self.plug.operation("reserve", path)
        super().reserve(path, size_bytes)

    def fsync(self, path: str) -> None:
        """Make a file's content durable."""
        self.plug.operation("fsync", path)
        super().fsync(path)

    def fsync_dir(self, path: str) -> None:
        """Make a folder's names durable."""
        self.plug.operation("fsync_dir", path)
        super().fsync_dir(path)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        self.plug.operation("rename", old)
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self.plug.operation("unlink", path)
        super().unlink(path)

    def mkdir(self, path: str) -> None:
        """Create a folder."""
        self.plug.operation("mkdir", path)
        super().mkdir(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self.plug.operation("rmdir", path)
        super().rmdir(path)
