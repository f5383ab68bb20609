"""A server that answers with another range than asked for, or with more than was allowed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from skerry_agent.errors import NetworkError
from skerry_agent.trust.transfer import Fleet

WHOLE = b"0123456789"


class Liar(BaseHTTPRequestHandler):
    """`/right` gives the range that was asked for; `/shifted` another one, and says so."""

    def do_GET(self) -> None:
        asked = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        begin = asked + (self.path == "/shifted")
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-9/10")
        self.send_header("Content-Length", str(len(WHOLE) - begin))
        self.end_headers()
        self.wfile.write(WHOLE[begin:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found = Fleet(f"http://127.0.0.1:{server.server_address[1]}")
        yield found
        found.close()
        server.shutdown()
        thread.join()


def test_a_download_goes_on_only_with_the_range_it_asked_for(fleet: Fleet) -> None:
    offset, pieces = fleet.stream("/right", max_bytes=10, offset=4)
    assert (offset, b"".join(pieces)) == (4, WHOLE[4:])
    with pytest.raises(NetworkError, match="another range"):
        fleet.stream("/shifted", max_bytes=11, offset=4)


@pytest.mark.parametrize("offset", [0, 4])
def test_an_answer_ends_where_it_must(fleet: Fleet, offset: int) -> None:
    with pytest.raises(NetworkError, match="more than"):
        b"".join(fleet.stream("/right", max_bytes=9, offset=offset)[1])
