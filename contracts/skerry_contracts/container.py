"""`NAME.skerry`: a bundle as one file, an uncompressed zip that any zip tool can list.

It holds `manifest.json` (the exact bytes whose SHA-256 is the bundle's id), one entry per blob named by its digest,
and beside them `evidence.json`. There is exactly one way to write a given content: names sorted, no gaps, no
comments, times fixed at 1980-01-01, no compression. The reader accepts only that form, so nothing can hide between
entries or be read two ways: no links, folders, repeated, compressed or encrypted entries, and every byte is covered
by a digest or a check sum.

No file is opened here: callers bring a binary file object.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
from skerry_contracts.errors import MalformedError, MismatchError

MANIFEST = "manifest.json"
EVIDENCE = "evidence.json"
SUFFIX = ".skerry"
MAX_ENTRIES = 4096
MAX_FILE_BYTES = 0xFFFF_FFF0  # plain zip: larger ones need zip64, which no device should have to read
CHUNK_BYTES = 1 << 20

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
_VERSION, _MADE_BY, _DATE, _MODE = 10, 3 << 8 | 10, 0x21, 0o100644 << 16
_HINT = "make the file again with skerry compile, or copy it again"


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """One entry: its content lies at `offset` + the local header's length."""

    name: str
    crc: int
    size: int
    offset: int

    def local(self) -> bytes:
        name = self.name.encode("ascii")
        return _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(name), 0) + name

    def central(self) -> bytes:
        name = self.name.encode("ascii")
        head = (b"PK\1\2", _MADE_BY, _VERSION, 0, 0, 0, _DATE, self.crc, self.size, self.size)
        return _CENTRAL.pack(*head, len(name), 0, 0, 0, 0, _MODE, self.offset) + name

    @property
    def start(self) -> int:
        return self.offset + _LOCAL.size + len(self.name)


class Container:
    """An opened container. Every read is checked against the manifest; `verify` reads all of it."""

    def __init__(self, file: BinaryIO, entries: dict[str, _Entry], manifest_bytes: bytes, manifest: Manifest) -> None:
        self._file = file
        self._entries = entries
        self.manifest_bytes = manifest_bytes
        self.manifest = manifest
        self.bundle_id = codec.digest(manifest_bytes)
        self._blobs = manifest.blobs()

    @property
    def evidence(self) -> bytes | None:
        """The bytes of evidence.json, or None. They are no part of the bundle's id."""
        entry = self._entries.get(EVIDENCE)
        return None if entry is None else b"".join(_content(self._file, entry))

    def read_blob(self, sha256: str) -> bytes:
        """Return one blob's bytes.

        Raises:
            MismatchError: the manifest names no such blob, or its bytes are not those the digest names.
        """
        return b"".join(self.stream_blob(sha256))

    def stream_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield one blob in pieces of at most CHUNK_BYTES; the digest is checked before the last piece is handed out.

        Raises:
            MismatchError: see `read_blob`.
        """
        if sha256 not in self._blobs:
            raise MismatchError("blobs", f"{sha256!r:.80} is not in this bundle")
        running, held = hashlib.sha256(), b""
        for piece in _content(self._file, self._entries[sha256]):
            running.update(piece)
            if held:
                yield held
            held = piece
        if running.hexdigest() != sha256:
            raise MismatchError(f"blobs.{sha256[:12]}", "content does not match its digest", hint=_HINT)
        yield held

    def verify(self) -> None:
        """Read everything once.

        Raises:
            MalformedError, MismatchError: the first thing that is not as it must be.
        """
        for sha256 in sorted(self._blobs):
            for _ in self.stream_blob(sha256):
                pass
        _ = self.evidence


def write_container(
    file: BinaryIO, manifest_bytes: bytes, blobs: Iterable[tuple[str, bytes]], evidence: bytes | None = None
) -> None:
    """Write a container: the same content gives the same bytes.

    Args:
        file: where to write, from its current position on.
        manifest_bytes: canonical bytes of a Manifest.
        blobs: pairs of digest and content; exactly those that the manifest names (repeats of the same are fine).
        evidence: bytes of an Evidence record, or None.

    Raises:
        ContractError: the manifest is none, or a blob is missing, not asked for, or not what its digest says.
    """
    manifest = _manifest(manifest_bytes)
    wanted = manifest.blobs()
    contents: dict[str, bytes] = {}
    for sha256, content in blobs:
        if sha256 not in wanted:
            raise MismatchError("blobs", f"{sha256!r:.80} is not in the manifest")
        if codec.digest(content) != sha256 or len(content) != wanted[sha256].size_bytes:
            raise MismatchError(f"blobs.{sha256[:12]}", "content does not match its digest or size")
        contents[sha256] = content
    missing = sorted(set(wanted) - set(contents))
    if missing:
        raise MismatchError(f"blobs.{missing[0][:12]}", "content is missing")
    contents[MANIFEST] = manifest_bytes
    if evidence is not None:
        contents[EVIDENCE] = evidence
    directory, offset = b"", 0
    for name in sorted(contents):
        content = contents[name]
        entry = _Entry(name, zlib.crc32(content), len(content), offset)
        offset = entry.start + len(content)
        if offset + len(directory) > MAX_FILE_BYTES - 4096:
            raise MismatchError("blobs", f"more than {MAX_FILE_BYTES} bytes in one file")
        directory += entry.central()
        file.write(entry.local())
        file.write(content)
    file.write(directory)
    file.write(_END.pack(b"PK\5\6", 0, 0, len(contents), len(contents), len(directory), offset, 0))


def open_container(file: BinaryIO) -> Container:
    """Read a container's directory and manifest; blobs are read and checked when asked for.

    Args:
        file: a seekable binary file; it must stay open as long as the Container is used.

    Raises:
        MalformedError: not a container, truncated, or written in any other way than `write_container` does.
        MismatchError: the manifest is wrong, or the entries are not those it names.
    """
    entries = _directory(file)
    if MANIFEST not in entries:
        raise MalformedError("not a bundle: no manifest.json", hint=_HINT)
    if any(entries[name].size > codec.MAX_DOCUMENT_BYTES for name in (MANIFEST, EVIDENCE) if name in entries):
        raise MalformedError(f"manifest or evidence larger than {codec.MAX_DOCUMENT_BYTES} bytes")
    manifest_bytes = b"".join(_content(file, entries[MANIFEST]))
    manifest = _manifest(manifest_bytes)
    wanted = manifest.blobs()
    for name, entry in entries.items():
        if name in (MANIFEST, EVIDENCE):
            continue
        if name not in wanted:
            raise MismatchError("blobs", f"the file holds {name!r:.80}, which the manifest does not name")
        if entry.size != wanted[name].size_bytes:
            raise MismatchError(
                f"blobs.{name[:12]}", f"{entry.size} bytes, the manifest says {wanted[name].size_bytes}"
            )
    missing = sorted(set(wanted) - set(entries))
    if missing:
        raise MismatchError(f"blobs.{missing[0][:12]}", "named by the manifest but not in the file", hint=_HINT)
    return Container(file, entries, manifest_bytes, manifest)


def _manifest(manifest_bytes: bytes) -> Manifest:
    manifest = codec.decode(Manifest, manifest_bytes)
    # Canonical as JSON, unknown fields included: an older reader keeps the id of a newer manifest.
    if codec.canonical_json(codec.parse_json(manifest_bytes)) != manifest_bytes:
        raise MalformedError("the manifest is not canonical JSON", hint=_HINT)
    return manifest


def _directory(file: BinaryIO) -> dict[str, _Entry]:
    end = file.seek(0, 2)
    if end < _END.size or end > MAX_FILE_BYTES:
        raise MalformedError(f"not a bundle: {end} bytes", hint=_HINT)
    tail = _read(file, end - _END.size, _END.size)
    magic, disk, first_disk, here, total, length, start, comment = _END.unpack(tail)
    if magic != b"PK\5\6" or disk or first_disk or here != total or comment:
        raise MalformedError("not a bundle, or cut short: no zip directory at the end", hint=_HINT)
    if total > MAX_ENTRIES or start + length + _END.size != end:
        raise MalformedError("the zip directory does not fit the file", hint=_HINT)
    directory = _read(file, start, length)
    entries: dict[str, _Entry] = {}
    at = expected = 0
    previous = ""
    for _ in range(total):
        entry, at = _entry(directory, at)
        if entry.name <= previous:
            raise MalformedError(f"entry {entry.name!r:.80} stands twice or out of order", hint=_HINT)
        if entry.offset != expected:
            raise MalformedError(f"a gap or overlap before entry {entry.name!r:.80}", hint=_HINT)
        if _read(file, entry.offset, _LOCAL.size + len(entry.name)) != entry.local():
            raise MalformedError(f"the two headers of entry {entry.name!r:.80} differ", hint=_HINT)
        previous, expected = entry.name, entry.start + entry.size
        entries[entry.name] = entry
    if at != length or expected != start:
        raise MalformedError("bytes that belong to no entry", hint=_HINT)
    return entries


def _entry(directory: bytes, at: int) -> tuple[_Entry, int]:
    if at + _CENTRAL.size > len(directory):
        raise MalformedError("the zip directory is cut short", hint=_HINT)
    fields = _CENTRAL.unpack_from(directory, at)
    flags, method, crc, packed, size, name_length = fields[3], fields[4], fields[7], fields[8], fields[9], fields[10]
    end = at + _CENTRAL.size + name_length
    raw = directory[at + _CENTRAL.size : end]
    name = raw.decode("ascii", "replace")
    if name not in (MANIFEST, EVIDENCE) and not (
        len(name) == 64 and all(letter in "0123456789abcdef" for letter in name)
    ):
        raise MalformedError(f"entry {name!r:.80} does not belong in a bundle", hint=_HINT)
    if flags & 1:
        raise MalformedError(f"entry {name!r} is encrypted", hint=_HINT)
    if method != 0 or packed != size:
        raise MalformedError(f"entry {name!r} is compressed", hint=_HINT)
    entry = _Entry(name, crc, size, fields[16])
    if directory[at:end] != entry.central():
        raise MalformedError(f"entry {name!r} is a link, has extra fields, or was written by another tool", hint=_HINT)
    return entry, end


def _content(file: BinaryIO, entry: _Entry) -> Iterator[bytes]:
    """Yield an entry's bytes in pieces; the check sum is compared before the last piece."""
    at, left, crc = entry.start, entry.size, 0
    while left > CHUNK_BYTES:
        piece = _read(file, at, CHUNK_BYTES)
        crc = zlib.crc32(piece, crc)
        at, left = at + len(piece), left - len(piece)
        yield piece
    piece = _read(file, at, left)
    if zlib.crc32(piece, crc) != entry.crc:
        raise MismatchError(f"blobs.{entry.name[:12]}", "content is damaged: the check sum differs", hint=_HINT)
    yield piece


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise MalformedError("cut short: the file ends inside an entry", hint=_HINT)
    return data
