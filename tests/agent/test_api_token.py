"""The token of the local API's port: who bears it, who does not, and the file it stands in."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.api_parts import Live, Notes

from skerry_agent import api_token
from skerry_agent.api import LocalApi
from skerry_agent.client import LocalClient
from skerry_agent.errors import RequestError
from skerry_agent.runtime import Runtime


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, str]]:
    folder = tmp_path_factory.mktemp("token")
    token = api_token.ensure(folder / "api.token")
    started, stop = threading.Event(), asyncio.Event()
    made: list[Live] = []

    async def serve() -> None:
        api = LocalApi(Runtime(), Notes())
        await api.start(folder / "api.sock", 0, token)
        assert api.port is not None
        made.append(Live(folder / "api.sock", api.port, Notes(), Runtime(), asyncio.get_running_loop()))
        started.set()
        await stop.wait()
        await api.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(60)
    yield made[0], token
    made[0].loop.call_soon_threadsafe(stop.set)
    thread.join()


def test_the_port_asks_for_the_token_and_the_socket_does_not(live: tuple[Live, str]) -> None:
    served, token = live
    for scheme in ("Bearer", "bearer"):
        assert served.http("GET", "/v2", headers={"Authorization": f"{scheme} {token}"})[0] == 200
    with LocalClient(served.socket_path) as client:
        assert client.get("/v2")["name"] == "skerry"
    with LocalClient(port=served.port, token=token) as client:
        assert client.get("/v2")["name"] == "skerry"
    with LocalClient(port=served.port) as client, pytest.raises(RequestError, match="token") as caught:
        client.get("/v2")
    assert caught.value.status == 401


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/skerry/status", "/", "/v2/models/%2e%2e"])
@pytest.mark.parametrize(
    "wrong",
    [
        "", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "Bearer x{}", "Bearer {0}{0}", "Bearer \xe4",
        "Bearer {}, Bearer {}",
    ],
)  # fmt: skip
def test_any_other_word_is_refused_before_anything_else_is_looked_at(
    live: tuple[Live, str], path: str, wrong: str
) -> None:
    served, token = live
    headers = {"Authorization": wrong.format(token, token)} if wrong else {}
    status, answer = served.http("GET", path, headers=headers)
    assert status == 401 and token not in answer["error"]
    assert served.http("POST", path, b"x" * 100_000, headers=headers)[0] == 401


def test_a_web_page_that_learnt_the_token_is_still_a_web_page(live: tuple[Live, str]) -> None:
    served, token = live
    headers = {"Authorization": f"Bearer {token}", "Origin": "http://evil.example"}
    assert served.http("GET", "/v2", headers=headers)[0] == 403


def test_the_file_is_for_user_and_group_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "api.token"
    before = os.umask(0o077)
    try:
        token = api_token.ensure(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and len(token) == 43
    path.chmod(0o666)
    assert api_token.ensure(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["api.token"]


@pytest.mark.parametrize("held", [b"", b"\n", b"short\n", b"\xff" * 43, b"a" * 44, b"a" * 5000, b"a" * 42 + b" "])
def test_what_is_no_token_is_replaced(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "api.token"
    path.write_bytes(held)
    assert api_token.matches(api_token.ensure(path), f"Bearer {path.read_text().strip()}".encode())


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "api.token").symlink_to(tmp_path / "other")
    (tmp_path / "other").write_text("a" * 43)
    with pytest.raises(OSError, match="symbolic link"):
        api_token.ensure(tmp_path / "api.token")
