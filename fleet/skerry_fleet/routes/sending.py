"""Files and blobs as answers: from this machine's disk, by the nginx in front, or out of the object store."""

from __future__ import annotations

import itertools
import re
import urllib.parse
from pathlib import Path

from fastapi import Response
from fastapi.responses import FileResponse, StreamingResponse

from skerry_fleet.blobs import BlobStore
from skerry_fleet.errors import FleetError, MissingError
from skerry_fleet.fleet import Fleet

BYTES = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def file(fleet: Fleet, path: Path, kind: str, sha256: str = "") -> Response:
    """Return a file, or the name of it for the nginx in front, which then sends it; both serve ranges.

    Raises:
        MissingError: there is none.
    """
    if not path.is_file():
        raise MissingError(f"no such file: {path.name[:80]}")
    headers = _headers(sha256)
    prefix, named = fleet.config.accel_prefix, _below(fleet, path)
    if prefix and named:
        return Response(
            None, headers={"x-accel-redirect": urllib.parse.quote(f"{prefix}/{named}"), **headers}, media_type=kind
        )
    return FileResponse(path, headers=headers, media_type=kind)


def blob(fleet: Fleet, sha256: str, wanted: str | None) -> Response:
    """Return a blob, or the part of it that `Range` names.

    Raises:
        MissingError: there is none.
        UnavailableError: the store does not answer.
    """
    kept = fleet.blobs.path(sha256)
    if kept is not None:
        return file(fleet, kept, BYTES, sha256)
    size = fleet.blobs.size(sha256)
    if size is None:
        raise MissingError(f"no such file: {sha256}")
    headers = {**_headers(sha256), "accept-ranges": "bytes"}
    if fleet.config.accel_prefix:
        link = urllib.parse.urlsplit(fleet.blobs.link(sha256))
        named = f"{fleet.config.accel_prefix}/objects/{link.scheme}/{link.netloc}{link.path}?{link.query}"
        return Response(None, headers={"x-accel-redirect": named, **headers}, media_type=BYTES)
    start, end = part(wanted, size)
    if (start, end) != (0, size):
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    pieces = fleet.blobs.pieces(sha256, start, end)
    first = next(pieces, b"")  # what is wrong with the store is said while a refusal still can be
    headers["content-length"] = str(end - start)

    return StreamingResponse(
        itertools.chain([first], pieces), 206 if "content-range" in headers else 200, headers, media_type=BYTES
    )


def part(wanted: str | None, size: int) -> tuple[int, int]:
    """Return where the part begins and ends that a Range header names (RFC 9110, 14.2); all of it where it names none,
    several, or cannot be read.

    Raises:
        FleetError: it begins behind the end (416).

    >>> part("bytes=2-", 10), part("bytes=2-4", 10), part("bytes=-3", 10), part("lines=1", 10)
    ((2, 10), (2, 5), (7, 10), (0, 10))
    """
    found = _RANGE.fullmatch(wanted or "")
    if found is None or not any(found.groups()):
        return 0, size
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < int(first):
        return 0, size  # no range at all
    if start >= size:
        raise FleetError(f"it has {size} bytes", hint="ask for less", code="bad-range", status=416)
    return start, end


def _headers(sha256: str) -> dict[str, str]:
    return {"etag": f'"{sha256}"', "cache-control": "private, immutable"} if sha256 else {}


def _below(fleet: Fleet, path: Path) -> str:
    """Return a file's path as nginx knows it, below the prefix; empty: nginx must not read it."""
    if isinstance(fleet.blobs, BlobStore) and path.is_relative_to(fleet.blobs.root):
        return f"blobs/{path.relative_to(fleet.blobs.root).as_posix()}"
    tuf = fleet.config.root / "trust" / "tuf"
    if not fleet.config.blob_url and path.is_relative_to(tuf):
        return f"trust/tuf/{path.relative_to(tuf).as_posix()}"
    return ""
