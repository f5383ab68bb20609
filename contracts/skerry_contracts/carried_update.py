"""An update for one device as one file, for sites that no network reaches: what the device would fetch, byte for byte.

First a line of JSON (`Update`): the signed assignment, and the fleet's paths with their sizes; then their contents, in
that order and without gaps. Paths are only looked up, never written to: there are no links, folders or names to abuse.
Nothing here is signed anew; the device judges the assignment, the update repository's metadata and the digests as it
does what comes over the network.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from skerry_contracts import codec
from skerry_contracts.errors import MalformedError, MismatchError

FORMAT = "skerry-update-1"
MAX_FILES = 4096
CHUNK_BYTES = 1 << 20
_HINT = "copy the file again, or make it again with skerry fleet device carry-out"
_PATH = re.compile(
    r"/tuf/metadata/[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.json"
    r"|/tuf/targets/[a-z0-9][a-z0-9-]{0,62}/[0-9a-f]{64}\.[0-9a-f]{64}\.json"
    r"|/blobs/[0-9a-f]{64}"
)


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One of the fleet's paths, and the length of what lies there."""

    path: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path) or self.size_bytes < 0:
            raise MismatchError("path", f"{self.path!r:.80} is nothing that a device fetches")


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """The first line: the assignment's envelope (its bytes), and what follows."""

    format: str
    assignment: bytes
    files: tuple[File, ...]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise MismatchError("format", f"{self.format!r:.40}, and {FORMAT} is read")
        if len({each.path for each in self.files}) != len(self.files) or len(self.files) > MAX_FILES:
            raise MismatchError("files", f"a path stands twice, or more than {MAX_FILES} do")


class CarriedUpdate:
    """An opened update file; the file must stay open as long as this is used."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the first line, and compare the lengths.

        Raises:
            MalformedError, MismatchError: no update file, or cut short, or with bytes that belong to nothing.
        """
        line = file.readline(codec.MAX_DOCUMENT_BYTES + 1)
        if not line.endswith(b"\n"):
            raise MalformedError("not an update file, or cut short", hint=_HINT)
        update = codec.decode(Update, line)
        self.assignment = update.assignment
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        at = len(line)
        for each in update.files:
            self._places[each.path] = (at, each.size_bytes)
            at += each.size_bytes
        if file.seek(0, 2) != at:
            raise MalformedError("cut short, or with bytes that belong to nothing", hint=_HINT)

    def paths(self) -> list[str]:
        """Return what there is."""
        return list(self._places)

    def size_bytes(self, path: str) -> int | None:
        """Return the length of what lies at a path; None where nothing does."""
        return self._places[path][1] if path in self._places else None

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield what lies at a path from `offset` on, in pieces.

        Raises:
            MalformedError: the file became shorter.
        """
        start, size = self._places[path]
        while offset < size:
            self._file.seek(start + offset)
            piece = self._file.read(min(CHUNK_BYTES, size - offset))
            if not piece:
                raise MalformedError("cut short", hint=_HINT)
            offset += len(piece)
            yield piece


def head(assignment: bytes, sizes: Iterable[tuple[str, int]]) -> bytes:
    """Return the first line of an update file; the contents follow in the same order."""
    return codec.encode(Update(FORMAT, assignment, tuple(File(path, size) for path, size in sizes))) + b"\n"
