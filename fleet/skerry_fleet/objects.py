"""Blobs in an object store: S3 and what speaks its language; this is the only file that imports obstore.

A blob is written to the root folder's disk first, where its digest is checked; only then is it sent, so that nothing
false ever has its name. The store shows an object when all of it has arrived. The request's signature covers the
content's digest (AWS Signature Version 4), and the size is asked for afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from skerry_contracts import names
from skerry_fleet.errors import InputError, MissingError, UnavailableError

PIECE_BYTES = 1 << 20
PART_BYTES = 8 << 20
LINK_MINUTES = 15
RETRY_S = 10
CONNECT_S, READ_S = 5, 30
SIZES = 10_000
"""Sizes that are remembered: what has a digest for its name never changes."""
OPTIONS = {"endpoint": "endpoint", "region": "region", "ca": "", "virtual_hosted": "virtual_hosted_style_request"}
_BLOB = re.compile(r"(?:.*/)?[0-9a-f]{2}/([0-9a-f]{64})")


class ObjectBlobs:
    """Content-addressed objects below one prefix of a bucket. Safe to use from several threads."""

    def __init__(self, url: str, folder: Path, secret_file: str = "") -> None:
        """Take an address apart; the store itself is not asked yet.

        Raises:
            InputError: the extra is missing, or the address or the file of the secret is not right.
        """
        try:
            import obstore
            from obstore import exceptions
            from obstore.store import from_url
        except ImportError as error:
            raise InputError(
                "object storage needs a library that is not here", hint="pip install 'skerry[objects]'"
            ) from error
        self._obstore: Any = obstore
        self._wrong: type[Exception] = exceptions.BaseError
        self._folder = folder
        self._sizes: OrderedDict[str, int] = OrderedDict()
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise InputError(f"blob_url: unknown option {unknown[0]!r:.40}", hint=f"known: {', '.join(OPTIONS)}")
        settings = {OPTIONS[name]: value for name, value in options.items() if name != "ca"}
        settings |= _secret(secret_file)
        client: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=READ_S),
            "timeout": timedelta(hours=1),
            # Only where the operator wrote http:// does anything travel in the clear.
            "allow_http": options.get("endpoint", "").startswith("http://"),
        }
        if "ca" in options:
            client["root_certificate"] = _text(options["ca"])
        retries = {"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_S)}
        self.where = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        try:
            make: Any = from_url  # what it takes depends on the scheme
            self._store: Any = make(self.where, client_options=client, retry_config=retries, **settings)
        except (exceptions.BaseError, ValueError) as error:
            raise InputError(f"blob_url: {_line(error)}", hint="see docs/operations.md") from error

    def path(self, sha256: str) -> None:
        """Return nothing: no blob lies on this machine."""
        names.sha256(sha256)

    def size(self, sha256: str) -> int | None:
        """Return a blob's size; None: it is not here."""
        key = _key(sha256)
        if (known := self._sizes.get(sha256)) is not None:
            return known
        try:
            with self._mapped(f"look for blob {sha256[:12]}"):
                found = int(self._obstore.head(self._store, key)["size"])
        except MissingError:
            return None
        self._sizes[sha256] = found
        while len(self._sizes) > SIZES:
            with contextlib.suppress(KeyError):
                self._sizes.popitem(last=False)
        return found

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether a blob of this size is here; the store is asked, for somebody may have removed it."""
        self._sizes.pop(sha256, None)
        return self.size(sha256) == size_bytes

    def put(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Keep a blob.

        Raises:
            InputError: the bytes are not those the digest names; nothing is kept.
            UnavailableError: the disk is full, or the store does not take it; nothing is kept.
        """
        key, running = _key(sha256), hashlib.sha256()
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                for piece in pieces:
                    running.update(piece)
                    file.write(piece)
                size = file.tell()
                if running.hexdigest() != sha256:
                    raise InputError(f"blob {sha256[:12]}: content does not match its digest")
                file.seek(0)
                with self._mapped(f"keep blob {sha256[:12]}"):
                    self._obstore.put(self._store, key, file, chunk_size=PART_BYTES, use_multipart=size > PART_BYTES)
        except OSError as error:
            raise UnavailableError(
                f"cannot keep blob {sha256[:12]}: {error.strerror}", hint="free disk space"
            ) from error
        except MissingError as error:
            raise UnavailableError(f"there is no {self.where}", hint="make the bucket first") from error
        if not self.has(sha256, size):
            raise UnavailableError(f"{self.where} lost blob {sha256[:12]}", hint="try again; check the store")

    def pieces(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return a blob's bytes from `start` up to `end`, piece by piece.

        Raises:
            MissingError: it is not here.
            UnavailableError: the store does not answer, or stops in the middle.
        """
        size = self.size(sha256)
        if size is None:
            raise MissingError(f"no blob {sha256[:12]}")
        end = size if end is None else min(end, size)
        if start >= end:
            return
        with self._mapped(f"read blob {sha256[:12]}"):
            found = self._obstore.get(self._store, _key(sha256), options={"range": (start, end)})
            left = end - start
            for piece in found.stream(min_chunk_size=PIECE_BYTES):
                content = bytes(piece)
                left -= len(content)
                yield content
        if left:
            raise UnavailableError(f"{self.where}: blob {sha256[:12]} ends early", hint="try again")

    def all(self) -> Iterator[str]:
        """Return every blob's digest, sorted."""
        with self._mapped("list the blobs"):
            found = [each["path"] for part in self._obstore.list(self._store) for each in part]
        yield from sorted(match[1] for path in found if (match := _BLOB.fullmatch(path)))

    def link(self, sha256: str) -> str:
        """Return an address at which anyone may fetch a blob for a quarter of an hour."""
        with self._mapped(f"sign for blob {sha256[:12]}"):
            return str(self._obstore.sign(self._store, "GET", _key(sha256), timedelta(minutes=LINK_MINUTES)))

    @contextlib.contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingError(f"cannot {what}: {self.where} does not have it") from error
        except self._wrong as error:
            raise UnavailableError(
                f"cannot {what} in {self.where}: {_line(error)}", hint="try again; check the store and its rights"
            ) from error


def _key(sha256: str) -> str:
    names.sha256(sha256)
    return f"{sha256[:2]}/{sha256}"


def _line(error: Exception) -> str:
    """Return the first line of what the library says, without its picture of the cause."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:300]


def _text(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}", hint="check blob_url and blob_secret_file") from error


def _secret(path: str) -> dict[str, str]:
    """Return the access key in a file: its id in the first line, the secret in the second. Without a file the library
    looks where all of them do: AWS_ACCESS_KEY_ID and its like in the environment, then the machine's own role.
    """
    if not path:
        return {}
    lines = _text(path).split()
    if len(lines) != 2:
        raise InputError(f"{path} does not hold an access key", hint="its id in one line, the secret in the next")
    return {"access_key_id": lines[0], "secret_access_key": lines[1]}
