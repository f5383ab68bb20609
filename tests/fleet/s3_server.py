"""A small S3 in memory, with faults: it checks every signature by its own account of AWS Signature Version 4.

Source: "Authenticating Requests (AWS Signature Version 4)" and the API reference of Amazon S3: PutObject, GetObject,
HeadObject, ListObjectsV2, CreateMultipartUpload, UploadPart, CompleteMultipartUpload.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

KEY_ID, SECRET = "AKIDEXAMPLE", "wJalr+XUtnFEMI/K7MDENG"
BUCKET = "models"


class Store:
    """What the server holds and how it fails. `down`: connections end without an answer; `busy`: so many requests are
    answered 503; `cut`: answers to GET end after so many bytes; `deaf`: what is put is thanked for and forgotten.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        self.down = self.deaf = False
        self.busy, self.cut = 0, -1
        self.refused: list[str] = []


@contextlib.contextmanager
def s3() -> Iterator[tuple[Store, str]]:
    """Yield the store, and the address of its server."""
    store = Store()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield store, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    store: Store
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.store.requests.append((self.command, parts.path))
        if self.store.down:
            self.close_connection = True
            return
        if self.store.busy:
            self.store.busy -= 1
            return self._answer(503, b"<Error><Code>SlowDown</Code></Error>")
        if wrong := unsigned(self.command, parts.path, parts.query, dict(self.headers.items()), body):
            self.store.refused.append(wrong)
            return self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        _, bucket, key = (*unquote(parts.path).split("/", 2), "")[:3]
        if bucket != BUCKET:
            return self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        if self.command == "GET" and not key:
            return self._list(query)
        return getattr(self, f"_{self.command.lower()}")(key, query, body)  # type: ignore[no-any-return]

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _put(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        if "uploadId" in query:
            self.store.parts[query["uploadId"]][int(query["partNumber"])] = body
        elif not self.store.deaf:
            self.store.objects[key] = body
        self._answer(200, b"", {"etag": f'"{hashlib.md5(body).hexdigest()}"'})

    def _post(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        if "uploads" in query:
            name = f"u{len(self.store.parts)}"
            self.store.parts[name] = {}
            said = f"<Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{name}</UploadId>"
            return self._answer(200, f"<InitiateMultipartUploadResult>{said}</InitiateMultipartUploadResult>".encode())
        parts = self.store.parts.pop(query["uploadId"])
        wanted = [int(each) for each in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        assert wanted == sorted(parts)
        if not self.store.deaf:
            self.store.objects[key] = b"".join(parts[each] for each in wanted)
        said = f'<Bucket>{BUCKET}</Bucket><Key>{key}</Key><ETag>"x"</ETag>'
        return self._answer(200, f"<CompleteMultipartUploadResult>{said}</CompleteMultipartUploadResult>".encode())

    def _delete(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        self.store.parts.pop(query.get("uploadId", ""), None)
        self._answer(204, b"")

    def _get(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        content = self.store.objects.get(key)
        if content is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        headers = {"etag": f'"{hashlib.md5(content).hexdigest()}"', "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or ""):
            start, end = int(found[1]), int(found[2] or len(content) - 1) + 1
            headers["content-range"] = f"bytes {start}-{min(end, len(content)) - 1}/{len(content)}"
            return self._answer(206, content[start:end], headers)
        return self._answer(200, content, headers)

    _head = _get

    def _list(self, query: Mapping[str, str]) -> None:
        found = [key for key in sorted(self.store.objects) if key.startswith(query.get("prefix", ""))]
        rows = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.store.objects[key])}</Size>"
            '<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag></Contents>'
            for key in found
        )
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.command == "GET" and 0 <= self.store.cut < len(body):
            self.wfile.write(body[: self.store.cut])
            self.close_connection = True
            return
        self.wfile.write(body)


def unsigned(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> str:
    """Return what is wrong with a request's signature; empty: nothing."""
    low = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    asked = parse_qsl(query, keep_blank_values=True)
    if authorization := low.get("authorization"):
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\S+?), ?SignedHeaders=(\S+?), ?Signature=([0-9a-f]{64})",
            authorization,
        )
        if found is None:
            return f"no signature of version 4: {authorization}"
        key_id, scope, signed, signature = found.groups()
        moment, digest = low["x-amz-date"], low["x-amz-content-sha256"]
        if digest != hashlib.sha256(body).hexdigest():
            return "the content is not what its digest says"
    else:
        given = dict(asked)
        key_id, _, scope = given.get("X-Amz-Credential", "").partition("/")
        signed, signature = given.get("X-Amz-SignedHeaders", ""), given.get("X-Amz-Signature", "")
        moment, digest = given.get("X-Amz-Date", ""), "UNSIGNED-PAYLOAD"
        asked = [each for each in asked if each[0] != "X-Amz-Signature"]
    if key_id != KEY_ID:
        return f"nobody is {key_id!r}"
    ordered = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in asked)
    names = signed.split(";")
    canonical = "\n".join(
        [
            method,
            quote(unquote(path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in ordered),
            *(f"{name}:{low[name]}" for name in names),
            "",
            signed,
            digest,
        ]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for each in scope.split("/"):
        key = hmac.new(key, each.encode(), hashlib.sha256).digest()
    wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return "" if hmac.compare_digest(wanted, signature) else f"another signature: {canonical!r}"
