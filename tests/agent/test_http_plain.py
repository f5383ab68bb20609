"""Plain requests are read without the general parser, which would have said the same; nothing else is taken for one."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.test_http import Streams, answer, run

from skerry_agent.http import HttpServer
from skerry_agent.http_plain import read_head

PLAIN = b"POST /v2/models/m/infer?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3"
LINES = (
    b"Host: a", b"host:b:1", b"Content-Length: 3", b"content-length:03", b"Content-Length: 3, 3", b"Content-Length: +3",
    b"Content-Length: 3 ", b"Connection: keep-alive", b"Connection: close", b"Transfer-Encoding: chunked", b"A: b",
    b"A: b\tc", b"A : b", b" folded", b"\tfolded", b"A:", b"", b"A: \xff", b"A: \x00", b"A: b\rc", b"A: b\nc",
    b"Expect: x", b"Upgrade: websocket", b"A", b": b", b"Content-Length: 99999999999999999999",
)  # fmt: skip
FIRST = (
    b"GET / HTTP/1.1", b"POST /a?b#c HTTP/1.1", b"GET  / HTTP/1.1", b"GET / HTTP/1.0", b"get / HTTP/1.1",
    b"GET http://a/ HTTP/1.1", b"GET /\x80 HTTP/1.1", b"GET /%2e HTTP/1.1", b"GET / HTTP/1.1 ", b"GET * HTTP/1.1",
)  # fmt: skip


@given(first=st.sampled_from(FIRST) | st.binary(max_size=20), lines=st.lists(st.sampled_from(LINES), max_size=5))
@settings(derandomize=True, max_examples=500)
def test_what_is_read_is_what_the_general_parser_reads(first: bytes, lines: list[bytes]) -> None:
    said = b"\r\n".join((first, *lines))
    head = read_head(said)
    if head is None:
        return
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(said + b"\r\n\r\n" + bytes(head.length))
    event, data, end = (parser.next_event() for _ in range(3)) if head.length else (parser.next_event(), None, None)
    assert isinstance(event, h11.Request) and (data is None or isinstance(data, h11.Data))
    assert (head.method.encode(), head.path.encode()) == (event.method, event.target.partition(b"?")[0])
    assert {name.encode(): value.encode() for name, value in head.headers.items()} == dict(event.headers)
    assert end is None or isinstance(end, h11.EndOfMessage)
    assert data is None or len(data.data) == head.length
    assert b"#" not in event.target and event.http_version == b"1.1"


def test_the_plainest_request_is_plain_and_each_oddity_is_not() -> None:
    head = read_head(PLAIN)
    assert head is not None and (head.method, head.path, head.length) == ("POST", "/v2/models/m/infer", 3)
    odd = (
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Host: b",
        b"A:b\r\n c",
        b"A b",
    )
    for line in odd:
        assert read_head(PLAIN + b"\r\n" + line) is None
    assert read_head(PLAIN.replace(b"Host: a\r\n", b"")) is None


def said(body: bytes, style: int) -> bytes:
    """Return a request that the server echoes, said plainly or not."""
    first = b"POST /%d HTTP/1.1\r\nHost: x\r\n" % style
    if style == 1:
        return (
            first
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + (b"%x\r\n%s\r\n" % (len(body), body)) * bool(body)
            + b"0\r\n\r\n"
        )
    more = b"Connection: keep-alive, x\r\n" if style == 2 else b""
    return first + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("seed", range(25))
def test_however_requests_are_cut_up_each_gets_its_own_answer(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    inner = said(b"inner", 0)  # a body that looks like a request is none
    asked = [(rng.choice((b"", b"ab", inner, inner * 2)), rng.randrange(3)) for _ in range(12)]

    async def body(connect: Callable[[], Awaitable[Streams]], server: HttpServer) -> None:
        reader, writer = await connect()
        stream = b"".join(said(*each) for each in asked)
        cuts = sorted(rng.sample(range(len(stream)), 20)) if seed % 5 else []
        if seed % 5 == 4:  # exactly at the ends of heads and bodies
            cuts = [at + 4 for at in range(len(stream)) if stream[at : at + 4] == b"\r\n\r\n"]
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            writer.write(stream[begin:end])
            await asyncio.sleep(0.001 * rng.randrange(2))
        for content, style in asked:
            status, _, got = await answer(reader)
            assert status == 200
            assert json.loads(got) == {"method": "POST", "path": f"/{style}", "body": content.decode()}
        writer.close()

    run(tmp_path, body)
