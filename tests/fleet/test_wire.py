"""Bytes as they come from strangers: requests that never end, that say two things at once, that are none at all."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.fleet.conftest import Clock, admin

from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import InputError

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A fleet as it is."""
    config = FleetConfig(root=tmp_path_factory.mktemp("wire"))
    with admin(create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)) as found:
        yield found


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A fleet that waits for nobody. On a machine with much else to do a sound request may be too slow for it, too, so
    tests ask it nothing else.
    """
    config = FleetConfig(root=tmp_path_factory.mktemp("hasty"), slow_request_s=0.5)
    with admin(create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)) as found:
        yield found


class Line:
    """A connection on which anything may be said."""

    def __init__(self, client: httpx.Client) -> None:
        where = urlsplit(str(client.base_url))
        self.sock = socket.create_connection((where.hostname, where.port), DEADLINE_S)
        self.key = client.headers["authorization"].encode()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, first: bytes, *headers: bytes, body: bytes = b"") -> None:
        lines = [first + b" HTTP/1.1", b"host: x", b"authorization: " + self.key, *headers, b"", b""]
        self.sock.sendall(b"\r\n".join(lines) + body)

    def hear(self, answers: int = 100) -> bytes:
        """Return all that is said until there are so many answers, or the server ends the connection."""
        heard = b""
        try:
            while data := self.sock.recv(65536):
                heard += data
                if heard.count(b"HTTP/1.1 ") >= answers and heard.endswith(b"}}"):
                    break
        except ConnectionError:
            pass
        return heard


def refusals(heard: bytes) -> list[tuple[int, str]]:
    """Return status and code of each refusal in what was heard; whatever is no refusal in our shape fails."""
    found = []
    while heard:
        head, _, rest = heard.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        error = json.loads(rest[:length])["error"]
        assert set(error) == {"code", "message", "hint"} and error["message"]
        found.append((int(head.split()[1]), error["code"]))
        heard = rest[length:]
    return found


@pytest.mark.parametrize("begun", [b"", b"G", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "])
def test_a_head_that_does_not_come_ends_the_connection(hasty: httpx.Client, begun: bytes) -> None:
    with Line(hasty) as line:
        with contextlib.suppress(ConnectionError):
            line.sock.sendall(begun)
        assert refusals(line.hear()) in ([(408, "too-slow")] if begun else [], [])


def test_a_head_that_trickles_ends_the_connection(hasty: httpx.Client) -> None:
    """One byte more now and then does not buy more time."""
    with Line(hasty) as line:
        line.sock.settimeout(0.05)
        line.sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ")
        heard = b""
        for _ in range(1200):
            try:
                line.sock.sendall(b"x")
                heard = line.sock.recv(65536)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            raise AssertionError("it was waited for for ever")
        assert heard == b"" or refusals(heard) == [(408, "too-slow")]


@pytest.mark.parametrize("path", [b"POST /api/v1/groups", b"POST /api/v1/models/digits/bundles"])
@pytest.mark.parametrize("framing", [b"content-length: 900000", b"transfer-encoding: chunked"])
def test_a_body_that_does_not_come_is_refused_and_changes_nothing(
    hasty: httpx.Client, path: bytes, framing: bytes
) -> None:
    said: list[tuple[int, str]] = []
    while not said:  # where even the head came too late, nothing is said
        with Line(hasty) as line, contextlib.suppress(ConnectionError):
            line.say(path, framing, body=b'{"name":' if b"length" in framing else b'8\r\n{"name":\r\n')
            said = refusals(line.hear())
    assert said == [(408, "too-slow")]


def test_a_refused_body_that_goes_on_for_ever_is_not_read_for_ever(hasty: httpx.Client) -> None:
    with Line(hasty) as line, pytest.raises(ConnectionError):
        line.say(b"POST /api/v1/groups", b"content-length: 1000000000")
        while True:
            line.sock.sendall(b" " * 65536)


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        ([b"content-length: 1000000000"], b"", [(413, "too-large")]),
        ([b"content-length: -1"], b"", [(400, "bad-request")]),
        ([b"content-length: +5"], b"12345", [(400, "bad-request")]),
        ([b"content-length: 0x10"], b"1" * 16, [(400, "bad-request")]),
        ([b"content-length: " + b"9" * 30], b"", [(400, "bad-request")]),
        ([b"content-length: 2", b"content-length: 3"], b"{}x", [(400, "bad-request")]),
        ([b"content-length: 2", b"transfer-encoding: chunked"], b"0\r\n\r\n", [(400, "bad-request")]),
        ([b"transfer-encoding: gzip"], b"", [(400, "bad-request")]),
        ([b"transfer-encoding: chunked"], b"zz\r\n{}\r\n", [(400, "bad-request")]),
        ([b"content-length : 2"], b"{}", [(400, "bad-request")]),
        ([b"x: a\r\n b", b"content-length: x"], b"", [(400, "bad-request")]),
        ([b"\xff\x00: 1"], b"", [(400, "bad-request")]),
        ([b"x: " + b"a" * 200_000], b"", [(400, "bad-request")]),
        ([b"authorization: Bearer sk1_0_0", b"content-length: 2"], b"{}", [(400, "bad-request")]),
        ([b"idempotency-key: a", b"idempotency-key: b", b"content-length: 2"], b"{}", [(400, "bad-request")]),
        ([b"content-encoding: gzip", b"content-length: 2"], b"\x1f\x8b", [(415, "unsupported-encoding")]),
        ([b"content-encoding: br", b"content-length: 2"], b"{}", [(415, "unsupported-encoding")]),
    ],
)
def test_lengths_and_headers_that_lie_are_refused(
    usual: httpx.Client, headers: list[bytes], body: bytes, found: list[tuple[int, str]]
) -> None:
    """The length said and the length sent may not be understood in two ways (request smuggling)."""
    before = usual.get("/api/v1/audit").content
    with Line(usual) as line:
        line.say(b"POST /api/v1/groups", *headers, body=body)
        assert refusals(line.hear(1))[:1] == found
    assert usual.get("/api/v1/audit").content == before


def test_a_body_shorter_or_longer_than_said_makes_no_second_request(
    usual: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes after the said length is the next request, and is judged as one."""
    with Line(usual) as line:
        line.say(b"POST /api/v1/groups", b"content-length: 3", body=b'{}}DELETE {"\r\n\r\n')
        assert refusals(line.hear(2)) == [(400, "malformed"), (400, "bad-request")]
    with Line(usual) as line:
        line.say(b"POST /api/v1/groups", b"content-length: 30", body=b'{"name":"short"}')
        line.sock.shutdown(socket.SHUT_WR)
        assert line.hear() == b""
    with Line(usual) as line:
        line.say(b"POST /api/v1/groups", b"content-length: 30", body=b'{"name":"short"}')
    assert usual.get("/healthz").status_code == 200
    assert "Traceback" not in caplog.text and "Exception" not in caplog.text, "who leaves is no error of ours"
    assert [each["name"] for each in usual.get("/api/v1/groups").json()["items"]] == []


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x01a",
        b"\0" * 100,
        b"\r\nPRI *\r\n\r\n",
    ],
)
def test_what_is_no_http_is_told_so(usual: httpx.Client, said: bytes) -> None:
    with Line(usual) as line:
        line.sock.sendall(said + b"\r\n\r\n")
        assert refusals(line.hear(1)) == [(400, "bad-request")]


def test_an_event_stream_outlives_the_time_for_requests(hasty: httpx.Client) -> None:
    """The time is for what comes in. Whoever listens may listen for long."""
    said = b""
    while not said:  # where even the head came too late, nothing is said
        listening = Line(hasty)
        with contextlib.suppress(ConnectionError):
            listening.say(b"GET /api/v1/events")
            said = listening.sock.recv(65536)
        if not said:
            listening.sock.close()
    with listening, Line(hasty) as slow:
        assert b" 200 " in said
        with contextlib.suppress(ConnectionError):
            slow.sock.sendall(b"G")
        slow.hear()  # as long as that has the stream been open, at least
        listening.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            while listening.sock.recv(65536):
                pass


@pytest.mark.parametrize("proxies", ["nowhere", "*", "10.0.0.1/8", "127.0.0.1;::1"])
def test_proxies_to_trust_are_addresses(tmp_path: Path, proxies: str) -> None:
    with pytest.raises(InputError, match="trusted_proxies"):
        FleetConfig(root=tmp_path, trusted_proxies=proxies)


@pytest.mark.parametrize(("proxies", "believed"), [("", False), ("10.0.0.0/8", False), ("127.0.0.0/8,::1", True)])
def test_who_a_client_says_it_is_counts_only_from_a_trusted_proxy(tmp_path: Path, proxies: str, believed: bool) -> None:
    """Else every request could come from another address, and the limit of one address would be none."""
    config = FleetConfig(root=tmp_path / "fleet", trusted_proxies=proxies, address_per_s=0.001, address_burst=5)
    app = create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)
    with admin(app) as client:
        asked = [
            client.get("/api/v1/whoami", headers={"x-forwarded-for": f"192.0.2.{number}"}).status_code
            for number in range(20)
        ]
    assert asked == ([200] * 20 if believed else [200] * 5 + [429] * 15)
